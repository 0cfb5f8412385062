"""Runs one command and measures the whole process: wall time, CPU time and peak memory.

Memory that is the process's own, without mapped files, has no peak in the kernel's accounts: it is looked at
every few milliseconds, and a peak shorter than that can be missed. Files in memory (`memfd_create`) count as own:
the system cannot take them back as it does with the cache of files on disk.

The kernel reports for a child the largest memory of any process it waited for, and counts what the
forking process had in memory before the new program was loaded. So this file is also a program: a
fresh, small interpreter that starts the command, waits, and writes the figures. Peak memory is that
of the largest single process, not a sum over processes running at once.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from pathlib import Path

SAMPLE_MILLISECONDS = 5
# Files in memory change slowly, and finding them takes longer.
FILES_EVERY = 10


# What is left free when the page cache is filled, so that the kernel has no need to hurry.
FREE_KEPT_BYTES = 1 << 30
READ_BYTES = 8 << 20


def fill_page_cache(filler: Path) -> None:
    """Put free memory to use, by reading the holes of the sparse file `filler`, which is made and must stay.

    A virtual machine may give free memory back to its host, and who asks for it next would pay for every page that
    comes again: seconds for each GB. Pages of the cache are there, and are taken from the oldest file first.
    """
    free = memory_bytes("MemFree") - FREE_KEPT_BYTES
    if free <= 0:
        return
    filler.unlink(missing_ok=True)
    with open(filler, "wb") as file:
        file.truncate(free)
    buffer = bytearray(READ_BYTES)
    with open(filler, "rb", buffering=0) as file:
        while memory_bytes("MemFree") > FREE_KEPT_BYTES and file.readinto(buffer):
            pass


def memory_bytes(field: str) -> int:
    """A figure of the kernel's account of memory."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field + ":"))


def run(argv: list[str], env: dict[str, str], cwd: str, log: str, timeout_seconds: int) -> dict:
    """Measure `argv`; its output goes to the file `log`. Raises StepFailed unless it exits with 0."""
    # Imported here: the measuring interpreter below has no need of them and stays small.
    import signal
    import subprocess

    figures_path = log + ".figures"
    launcher = [sys.executable, "-I", "-S", os.path.abspath(__file__), figures_path, *argv]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            launcher, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            process.wait(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise StepFailed(f"{argv[0]} did not end within {timeout_seconds} s", log) from None
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if process.returncode != 0:
        raise StepFailed(f"the launcher of {argv[0]} exited with {process.returncode}", log)
    with open(figures_path) as file:
        figures = json.load(file)
    os.unlink(figures_path)
    if figures["exit"] != 0:
        raise StepFailed(f"`{' '.join(argv)}` exited with {figures['exit']}", log)
    return figures


class StepFailed(Exception):
    """A measured command failed; carries the end of its output."""

    def __init__(self, what: str, log: str) -> None:
        with open(log, "rb") as file:
            tail = file.read()[-1500:].decode(errors="replace").strip()
        super().__init__(f"{what}\n{tail}" if tail else what)


def launch(figures_path: str, argv: list[str]) -> None:
    """Start `argv`, wait for it, and write its figures to `figures_path`."""
    busy = busy_seconds()
    started = time.perf_counter()
    child = os.posix_spawnp(argv[0], argv, os.environ)
    own = peak_own(child)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - started
    cpu = usage.ru_utime + usage.ru_stime
    figures = {
        "exit": os.waitstatus_to_exitcode(status),
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "others_cpu_seconds": max(0.0, busy_seconds() - busy - cpu),
        "user_seconds": usage.ru_utime,
        "system_seconds": usage.ru_stime,
        "rss_bytes": usage.ru_maxrss * 1024,
        "own_bytes": own,
        "major_faults": usage.ru_majflt,
        "read_bytes": usage.ru_inblock * 512,
        "written_bytes": usage.ru_oublock * 512,
    }
    with open(figures_path, "w") as file:
        json.dump(figures, file)


def peak_own(child: int) -> int:
    """The most memory in bytes that a process had without mapped files of a disk, until it ends."""
    peak = files = sample = 0
    ended = select.poll()
    descriptor = os.pidfd_open(child)
    ended.register(descriptor, select.POLLIN)
    with open(f"/proc/{child}/status", "rb", buffering=0) as status:
        while not ended.poll(SAMPLE_MILLISECONDS):
            if sample % FILES_EVERY == 0:
                files = files_in_memory(child)
            sample += 1
            status.seek(0)
            _, found, rest = status.read(4096).partition(b"RssAnon:")
            if found:
                peak = max(peak, (int(rest.split()[0]) << 10) + files)
    os.close(descriptor)
    return peak


def files_in_memory(child: int) -> int:
    """Bytes of the files in memory that a process has open."""
    folder = f"/proc/{child}/fd"
    sizes: dict[int, int] = {}
    try:
        for name in os.listdir(folder):
            path = f"{folder}/{name}"
            if os.readlink(path).startswith("/memfd:"):
                stat = os.stat(path)
                sizes[stat.st_ino] = stat.st_blocks * 512
    except OSError:
        # It ended, or closed one meanwhile: the next sample counts.
        pass
    return sum(sizes.values())


def busy_seconds() -> float:
    """What all processors together have worked so far, for whomever; waiting is not counted."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    launch(sys.argv[1], sys.argv[2:])
