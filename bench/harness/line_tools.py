"""The tools over a line: how each one is told to use a bucket of an S3 store.

As in `tools.py`, with default settings; only what an S3 store needs is said besides.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import tools
from line_store import ACCESS_KEY, REGION, SECRET_KEY

ROOT = "repository"


class OverLine(tools.Tool):
    """A tool with a repository in a bucket behind `address`; subclasses of the tools in `tools.py` mix it in."""

    def __init__(self, home: Path, address: str, bucket: str) -> None:
        super().__init__(home)
        self.address, self.bucket = address, bucket

    def environment(self) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_DEFAULT_REGION": REGION}
        return {**super().environment(), **keys, "AWS_REGION": REGION}

    def snapshots(self) -> list[str]:
        """List the snapshots."""
        raise NotImplementedError

    def restore_folder(self, source: Path, folder: str, target: Path) -> list[str]:
        """Restore one folder below `source` of the newest backup into the empty directory `target`."""
        raise NotImplementedError

    def check_structure(self) -> list[str]:
        """Check the repository without reading its data."""
        raise NotImplementedError

    def forget_cache(self) -> None:
        """Remove what the tool has kept on this machine to be fast."""
        shutil.rmtree(self.home / "cache", ignore_errors=True)


class Lifeboat(OverLine, tools.Lifeboat):
    """Lifeboat; a passphrase, as users have it, so that its derivation is in every row."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "LIFEBOAT_PASSPHRASE": tools.PASSWORD}

    def command(self, *words: object) -> list[str]:
        url = f"s3://{self.bucket}/{ROOT}?endpoint=http://{self.address}&region={REGION}&path-style=true"
        return [str(word) for word in (self.binary, "--no-progress", "-r", url, *words)]

    def snapshots(self) -> list[str]:
        return self.command("snapshots")

    def restore_folder(self, source: Path, folder: str, target: Path) -> list[str]:
        return self.command("restore", f"latest:{source / folder}", "--target", target)

    def check_structure(self) -> list[str]:
        return self.command("check")


class Restic(OverLine, tools.Restic):
    """restic."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "RESTIC_REPOSITORY": f"s3:http://{self.address}/{self.bucket}/{ROOT}"}

    def snapshots(self) -> list[str]:
        return ["restic", "snapshots"]

    def restore_folder(self, source: Path, folder: str, target: Path) -> list[str]:
        return ["restic", "restore", "latest", "--include", str(source / folder), "--target", str(target)]

    def check_structure(self) -> list[str]:
        return ["restic", "check"]


class Rustic(OverLine, tools.Rustic):
    """rustic; what it cannot be told by the environment is in a file of its home, where it is started."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "RUSTIC_REPOSITORY": "opendal:s3"}

    def init(self) -> list[list[str]]:
        options = {
            "endpoint": f"http://{self.address}", "bucket": self.bucket, "root": f"/{ROOT}", "region": REGION,
            "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY,
        }  # fmt: skip
        # Strings of TOML are written as those of JSON.
        lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
        (self.home / "rustic.toml").write_text("[repository.options]\n" + "\n".join(lines) + "\n")
        return super().init()

    def snapshots(self) -> list[str]:
        return ["rustic", "snapshots"]

    def restore_folder(self, source: Path, folder: str, target: Path) -> list[str]:
        return ["rustic", "restore", f"latest:{source / folder}", str(target)]

    def check_structure(self) -> list[str]:
        return ["rustic", "check"]


class Line:
    """The running proxy; see `bench/micro/examples/line`."""

    def __init__(self, program: Path, server: str, rtt_ms: int, mbit: float) -> None:
        delay = rtt_ms / 2
        if delay != int(delay):
            raise SystemExit("the round trip must be an even number of milliseconds")
        words = [str(program), "--to", server, "--delay-ms", str(int(delay)), "--mbit", str(mbit), "--queue-ms", str(rtt_ms)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address: str = json.loads(self.answer())["listening"]

    def take(self) -> dict:
        """What went over the line since this was last asked."""
        self.process.stdin.write("take\n")
        self.process.stdin.flush()
        return json.loads(self.answer())

    def answer(self) -> str:
        """Its next line."""
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the proxy of the line has ended; its words are above")
        return line

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.wait()


def proxy_program() -> Path:
    """Where cargo puts the proxy."""
    target = os.environ.get("CARGO_TARGET_DIR") or tools.REPOSITORY_ROOT / "target"
    return Path(target) / "release" / "examples" / "line"


ALL: list[type[OverLine]] = [Lifeboat, Restic, Rustic]
