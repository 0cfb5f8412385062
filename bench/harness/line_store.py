"""The store at the other end of the line: one node of Garage, as a process of this machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCESS_KEY = "GK0123456789abcdef01234567"
SECRET_KEY = "5ec2e7000000000000000000000000000000000000000000000000000000cafe"
REGION = "garage"
ADMIN_TOKEN = "administration-of-a-bench"
RPC_SECRET = "1799bccfd7411eddcf9ebd316bc1f5287ad12a68094e1c6ac6abde7e6feae1ec"
START_SECONDS = 60
POLL_SECONDS = 0.05
CONFIGURATION = """
metadata_dir = "{home}/meta"
data_dir = "{home}/data"
db_engine = "sqlite"
replication_factor = 1
compression_level = "none"
disable_scrub = true
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{RPC_SECRET}"
[s3_api]
s3_region = "{REGION}"
api_bind_addr = "127.0.0.1:{s3}"
[admin]
api_bind_addr = "127.0.0.1:{admin}"
admin_token = "{ADMIN_TOKEN}"
"""


def program() -> str:
    """Garage's program: LIFEBOAT_GARAGE, what `tests/run` has built, or one on PATH."""
    cache = Path(os.environ.get("LIFEBOAT_CI_CACHE") or Path.home() / ".cache" / "lifeboat-ci")
    built = cache / "garage-2.5.0" / "bin" / "garage"
    found = os.environ.get("LIFEBOAT_GARAGE") or (str(built) if built.exists() else shutil.which("garage"))
    if not found:
        raise SystemExit("there is no Garage: run tests/run once, or name one by LIFEBOAT_GARAGE")
    return found


class Store:
    """A running node with everything below `home`."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True)
        self.home = home
        ports = dict(zip(("rpc", "s3", "admin"), free_ports(3), strict=True))
        self.address, self.admin = f"127.0.0.1:{ports['s3']}", f"http://127.0.0.1:{ports['admin']}"
        file = home / "garage.toml"
        named = {"home": home, "RPC_SECRET": RPC_SECRET, "REGION": REGION, "ADMIN_TOKEN": ADMIN_TOKEN}
        file.write_text(CONFIGURATION.format(**named, **ports))
        words = [program(), "-c", str(file), "server", "--single-node", "--default-access-key"]
        keys = {"GARAGE_DEFAULT_ACCESS_KEY": ACCESS_KEY, "GARAGE_DEFAULT_SECRET_KEY": SECRET_KEY}
        with open(home / "log", "wb") as log:
            # Not at a terminal's signals: the bench ends it itself.
            self.process = subprocess.Popen(
                words, env={**keys, "NO_COLOR": "1"}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self.wait()
        except BaseException:
            self.close()
            raise

    def wait(self) -> None:
        """Until it serves."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if self.call("GetClusterHealth")["status"] == "healthy":
                    return
            except (OSError, urllib.error.URLError):
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"Garage does not start: see {self.home / 'log'}\n{(self.home / 'log').read_text()[-1500:]}")
            time.sleep(POLL_SECONDS)

    def call(self, name: str, body: dict | None = None) -> dict:
        """Call the administration interface: with a body a POST."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.admin}/v2/{name}", data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def create_bucket(self, name: str) -> None:
        """Make a bucket that the key may use."""
        bucket = self.call("CreateBucket", {"globalAlias": name})["id"]
        permissions = {"read": True, "write": True, "owner": True}
        self.call("AllowBucketKey", {"bucketId": bucket, "accessKeyId": ACCESS_KEY, "permissions": permissions})

    def stored(self, name: str) -> tuple[int, int]:
        """Bytes and objects in a bucket."""
        info = self.call(f"GetBucketInfo?globalAlias={name}")
        return info["bytes"], info["objects"]

    def close(self) -> None:
        """End it; what it stored stays."""
        self.process.terminate()
        self.process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
