"""The programs measured: how each one is told to back up, restore and check.

Every tool runs with its default settings, in a home, cache and temporary directory of its own, so
that nothing configured on the machine has a say. A method returns the command as an argument list,
or None where the tool has no such thing.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

PASSWORD = "a password for measurements only"
REPOSITORY_ROOT = Path(__file__).resolve().parent.parent.parent


class Tool:
    """One tool with one repository below `home`; subclasses say the commands."""

    name = ""
    binary = ""
    # A floor is no peer: it does less than a backup, and is shown for orientation.
    is_floor = False

    def __init__(self, home: Path) -> None:
        self.home = home
        self.repository = home / "repository"

    @classmethod
    def version(cls) -> str | None:
        """The version line, or None if the tool is not installed."""
        path = shutil.which(cls.binary)
        if not path:
            return None
        flag = "version" if cls.binary in ("restic", "bupstash") else "--version"
        shown = subprocess.run([path, flag], capture_output=True, text=True, check=False).stdout.strip()
        return shown.splitlines()[0] if shown else path

    def environment(self) -> dict[str, str]:
        """A small environment that keeps the tool inside `home`."""
        kept = {key: os.environ[key] for key in ("PATH", "TZ") if key in os.environ}
        own = {"HOME": self.home, "TMPDIR": self.home / "tmp", "XDG_CACHE_HOME": self.home / "cache"}
        return {**kept, "LANG": "C.UTF-8", **{key: str(value) for key, value in own.items()}}

    def init(self) -> list[list[str]]:
        """Commands that make the repository; not measured."""
        return []

    def backup(self, source: Path, step: str) -> list[str] | None:
        """Back up `source`; `step` is a name unique within the scenario."""
        raise NotImplementedError

    def restore(self, source: Path, target: Path) -> list[str] | None:
        """Restore the newest backup of `source` into the empty directory `target`."""
        return None

    def check(self) -> list[str] | None:
        """Check the repository with all its data read."""
        return None

    def forget(self) -> list[str] | None:
        """Forget all backups but the newest, of whatever source."""
        return None

    def prune(self) -> list[str] | None:
        """Free what no backup needs, at once."""
        return None


class Lifeboat(Tool):
    """Lifeboat itself; LIFEBOAT_BIN names another binary than the release build of this checkout."""

    name = "lifeboat"
    binary = os.environ.get("LIFEBOAT_BIN") or str(REPOSITORY_ROOT / "target" / "release" / "lifeboat")

    def environment(self) -> dict[str, str]:
        own = {"LIFEBOAT_CACHE_DIR": self.home / "cache", "XDG_DATA_HOME": self.home / "data"}
        return {**super().environment(), **{key: str(value) for key, value in own.items()}}

    def command(self, *words: object) -> list[str]:
        """A command on this repository."""
        key_file = self.home / "key"
        given = [self.binary, "--no-progress", "-r", self.repository, "--key-file", key_file, *words]
        return [str(word) for word in given]

    def init(self) -> list[list[str]]:
        return [self.command("init")]

    def backup(self, source: Path, step: str) -> list[str]:
        return self.command("backup", source)

    def restore(self, source: Path, target: Path) -> list[str]:
        return self.command("restore", "latest", "--target", target)

    def check(self) -> list[str]:
        return self.command("check", "--read-data")

    def forget(self) -> list[str]:
        return self.command("forget", "--keep-last", "1", "--group-by", "none")

    def prune(self) -> list[str]:
        return self.command("prune")


class Restic(Tool):
    """restic."""

    name = "restic"
    binary = "restic"

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "RESTIC_REPOSITORY": str(self.repository), "RESTIC_PASSWORD": PASSWORD}

    def init(self) -> list[list[str]]:
        return [["restic", "init"]]

    def backup(self, source: Path, step: str) -> list[str]:
        return ["restic", "backup", str(source)]

    def restore(self, source: Path, target: Path) -> list[str]:
        return ["restic", "restore", "latest", "--target", str(target)]

    def check(self) -> list[str]:
        return ["restic", "check", "--read-data"]

    def forget(self) -> list[str]:
        return ["restic", "forget", "--keep-last", "1", "--group-by", ""]

    def prune(self) -> list[str]:
        return ["restic", "prune"]


class Rustic(Tool):
    """rustic, which writes restic's format."""

    name = "rustic"
    binary = "rustic"

    def environment(self) -> dict[str, str]:
        own = {"RUSTIC_REPOSITORY": str(self.repository), "RUSTIC_PASSWORD": PASSWORD, "RUSTIC_NO_PROGRESS": "true"}
        return {**super().environment(), **own}

    def init(self) -> list[list[str]]:
        return [["rustic", "init"]]

    def backup(self, source: Path, step: str) -> list[str]:
        return ["rustic", "backup", str(source)]

    def restore(self, source: Path, target: Path) -> list[str]:
        return ["rustic", "restore", "latest", str(target)]

    def check(self) -> list[str]:
        return ["rustic", "check", "--read-data"]

    def forget(self) -> list[str]:
        return ["rustic", "forget", "--keep-last", "1", "--group-by", ""]

    def prune(self) -> list[str]:
        # As much as the others do: by default it copies a tenth of the repository at most, and deletes a day later.
        return ["rustic", "prune", "--max-repack", "unlimited", "--instant-delete"]


class Borg(Tool):
    """borg with its default compression, lz4; it extracts into the working directory."""

    name = "borg-lz4"
    binary = "borg"
    compression = "lz4"

    def environment(self) -> dict[str, str]:
        own = {"BORG_REPO": str(self.repository), "BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": str(self.home)}
        return {**super().environment(), **own}

    def init(self) -> list[list[str]]:
        return [["borg", "init", "--encryption", "repokey"]]

    def backup(self, source: Path, step: str) -> list[str]:
        self.newest = step
        return ["borg", "create", "--compression", self.compression, f"::{step}", str(source)]

    def restore(self, source: Path, target: Path) -> list[str]:
        return in_shell(f"cd {quote(target)} && exec borg extract ::{self.newest}")

    def check(self) -> list[str]:
        return ["borg", "check", "--verify-data"]


class BorgZstd(Borg):
    """borg with the compression level that the other tools use."""

    name = "borg-zstd"
    compression = "zstd,3"


class Bupstash(Tool):
    """bupstash; a send log per source is how it is meant to be run. It has no check."""

    name = "bupstash"
    binary = "bupstash"

    def environment(self) -> dict[str, str]:
        own = {"BUPSTASH_REPOSITORY": str(self.repository), "BUPSTASH_KEY": str(self.home / "key")}
        return {**super().environment(), **own}

    def init(self) -> list[list[str]]:
        return [["bupstash", "init", "--quiet"], ["bupstash", "new-key", "-o", str(self.home / "key")]]

    def backup(self, source: Path, step: str) -> list[str]:
        self.newest = step
        send_log = str(self.home / "send.log")
        return ["bupstash", "put", "--quiet", "--send-log", send_log, f"step={step}", "::", str(source)]

    def restore(self, source: Path, target: Path) -> list[str]:
        return ["bupstash", "restore", "--quiet", "--into", str(target), f"step={self.newest}"]


class TarZstd(Tool):
    """`tar | zstd -3 -T0`: no encryption, no deduplication, everything again each time."""

    name = "tar-zstd"
    binary = "zstd"

    @property
    def archive(self) -> Path:
        """The one file that is the repository."""
        return self.repository / "archive.tar.zst"

    def init(self) -> list[list[str]]:
        return [["mkdir", str(self.repository)]]

    def backup(self, source: Path, step: str) -> list[str]:
        folder, name = quote(source.parent), quote(source.name)
        return in_shell(f"tar --one-file-system -C {folder} -cf - {name} | zstd -3 -T0 -q -f -o {quote(self.archive)}")

    def restore(self, source: Path, target: Path) -> list[str]:
        return in_shell(f"zstd -q -dc {quote(self.archive)} | tar -C {quote(target)} -xpf -")


class Floor(Tool):
    """What the file system itself costs: listing the tree, and copying it."""

    name = "floor"
    binary = "find"
    is_floor = True

    def backup(self, source: Path, step: str) -> list[str] | None:
        if step != "no-change":
            return None
        return in_shell(f"exec find {quote(source)} -xdev -printf '%p %s %T@ %i\\n' > /dev/null")

    def restore(self, source: Path, target: Path) -> list[str]:
        return ["cp", "-a", "--one-file-system", str(source), str(target)]


def in_shell(script: str) -> list[str]:
    """A shell script in which a failure anywhere in a pipe is a failure."""
    return ["bash", "-o", "pipefail", "-c", script]


def quote(path: Path | str) -> str:
    """`path` as one word of a shell script."""
    return shlex.quote(str(path))


def another_lifeboat(label: str, binary: str) -> type[Lifeboat]:
    """A second build of Lifeboat to compare with, shown in a column of its own."""
    return type("LifeboatBuild", (Lifeboat,), {"name": label, "binary": binary})


ALL: list[type[Tool]] = [Lifeboat, Restic, Rustic, Borg, BorgZstd, Bupstash, TarZstd, Floor]
