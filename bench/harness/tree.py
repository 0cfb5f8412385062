"""The `tree` corpus: many small files, as Python installations have them.

Wheels named in `tree.toml` are fetched by pip from the configured package index (nothing is
installed), unpacked into one directory per installation, and compiled to bytecode there. Paths,
modification times, bytecode file names and the paths inside the bytecode do not depend on where
the corpus lies. The bytecode is that of the running interpreter, so it is equal on machines with
the same Python version, and of the same shape on all others.

Never imports or runs what it unpacks; it only compiles it.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import multiprocessing
import os
import struct
import subprocess
import sys
import tomllib
import warnings
import zipfile
from pathlib import Path

RECIPE = Path(__file__).resolve().parent.parent / "tree.toml"
# The prefix written into bytecode; nothing is ever installed there.
PREFIX = "/opt/python"
# Modification times start here and advance a day per installation.
EPOCH_SECONDS = 1_700_000_000
DAY_SECONDS = 86_400
PLATFORMS = ["manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"]


def build(data: Path, downloads: Path, scale: float) -> None:
    """Build the corpus into `data` (which exists and is empty)."""
    for number, installation in enumerate(installations(scale)):
        print(f"  {installation['name']}", flush=True)
        wheels = fetch(installation, downloads)
        prefix = data / installation["name"]
        unpack(wheels, prefix, installation["python"])
        set_times(prefix, EPOCH_SECONDS + number * DAY_SECONDS)
        compile_all(prefix, installation)


def installations(scale: float) -> list[dict]:
    """The recipe cut or repeated to `scale`; repeated installations get names of their own."""
    recipe = tomllib.loads(RECIPE.read_text())["installation"]
    wanted = max(1, round(len(recipe) * scale))
    chosen = []
    for number in range(wanted):
        entry = dict(recipe[number % len(recipe)])
        copy = number // len(recipe)
        if copy:
            entry["name"] += f"-copy{copy}"
        chosen.append(entry)
    return chosen


def fetch(installation: dict, downloads: Path) -> list[Path]:
    """Download the wheels of one installation, or take those of an earlier run, in a fixed order."""
    folder = downloads / f"python{installation['python']}"
    folder.mkdir(parents=True, exist_ok=True)
    ledger = folder / "have.json"
    have: dict[str, str] = json.loads(ledger.read_text()) if ledger.exists() else {}
    missing = [pin for pin in installation["packages"] if pin not in have]
    if missing:
        before = set(folder.glob("*.whl"))
        subprocess.run(pip_command(installation["python"], folder, missing), check=True)
        for pin in missing:
            have[pin] = wheel_of(pin, folder).name
        assert before <= set(folder.glob("*.whl"))
        ledger.write_text(json.dumps(have, indent=1))
    return [folder / have[pin] for pin in installation["packages"]]


def pip_command(python: str, folder: Path, pins: list[str]) -> list[str]:
    """The pip command that downloads exactly `pins`, whatever machine this is."""
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check"]
    target = ["--python-version", python, "--implementation", "cp", "--dest", str(folder)]
    return [sys.executable, "-m", "pip", "download", *options, *platforms, *target, *pins]


def wheel_of(pin: str, folder: Path) -> Path:
    """The downloaded wheel for `name==version`."""
    name, version = pin.split("==")
    stem = f"{name.lower().replace('-', '_')}-{version}-"
    found = sorted(w for w in folder.glob("*.whl") if w.name.lower().startswith(stem))
    if not found:
        raise FileNotFoundError(f"pip downloaded no wheel for {pin} into {folder}")
    return found[0]


def unpack(wheels: list[Path], prefix: Path, python: str) -> None:
    """Lay the wheels out as pip would, without entry points."""
    site = prefix / "lib" / f"python{python}" / "site-packages"
    site.mkdir(parents=True)
    binaries = prefix / "bin"
    binaries.mkdir()
    (prefix / "lib64").symlink_to("lib")
    (binaries / "python3").symlink_to(f"python{python}")
    (binaries / "python").symlink_to("python3")
    (binaries / f"python{python}").symlink_to(f"/usr/bin/python{python}")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    write_member(archive, member, site, prefix)


def write_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, site: Path, prefix: Path) -> None:
    """Write one file of a wheel where it belongs; `NAME.data/` is spread over the prefix."""
    target = site / member.filename
    first, _, rest = member.filename.partition("/")
    if first.endswith(".data"):
        scheme, _, rest = rest.partition("/")
        roots = {"data": prefix, "scripts": prefix / "bin", "headers": prefix / "include"}
        target = roots.get(scheme, site) / rest
    if ".." in target.parts:
        raise ValueError(f"a wheel names a file outside its place: {member.filename}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(archive.read(member))
    executable = member.external_attr >> 16 & 0o111 or target.suffix == ".so"
    target.chmod(0o755 if executable else 0o644)


def set_times(prefix: Path, mtime: int) -> None:
    """Give every file the installation's time, as an unpacked installation has."""
    for folder, _, names in os.walk(prefix):
        for name in names:
            os.utime(os.path.join(folder, name), (mtime, mtime), follow_symlinks=False)


def compile_all(prefix: Path, installation: dict) -> None:
    """Write `__pycache__` for every source file of the installation, on all processors."""
    sources = sorted(str(path) for path in prefix.rglob("*.py"))
    tasks = [(source, str(prefix), installation["name"], installation["optimize"]) for source in sources]
    with multiprocessing.Pool() as pool:
        for _ in pool.imap_unordered(compile_one, tasks, chunksize=64):
            pass


def compile_one(task: tuple[str, str, str, list[int]]) -> None:
    """Compile one source at each level; sources that are no valid Python are left without bytecode."""
    source, prefix, name, levels = task
    installed_as = os.path.join(PREFIX, name, os.path.relpath(source, prefix))
    text = Path(source).read_bytes()
    mtime = int(os.stat(source).st_mtime)
    header = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, mtime, len(text) & 0xFFFFFFFF)
    for level in levels:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                code = compile(text, installed_as, "exec", dont_inherit=True, optimize=level)
            except (SyntaxError, ValueError, RecursionError):
                return
        target = importlib.util.cache_from_source(source, optimization=level or "")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).write_bytes(header + marshal.dumps(code))
        os.utime(target, (mtime, mtime))
