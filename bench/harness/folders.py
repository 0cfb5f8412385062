"""The `line` corpus: a home directory of documents, pictures and a few larger files.

Small enough to be sent over a slow line in half a minute, with enough files that a tool which asks the store for each
of them would be seen to. About three fifths of the bytes are left after compression. All of it follows from constant seeds.
"""

from __future__ import annotations

import random
from pathlib import Path

import mixed

# At scale 1, as in the measurements that the goals were set by.
FILES = 11_750
TOTAL_BYTES = 490_000_000
# A few large files that cannot be compressed, as videos and archives.
LARGE_FILES, LARGE_BYTES = 40, 100_000_000
# Others have sizes of a log-normal distribution: half are below 8 kB, few above 300 kB.
MEDIAN_BYTES, SIGMA, SMALLEST_BYTES, LARGEST_BYTES = 8_000, 1.6, 40, 2_000_000
# Of the others, how many are pictures, which cannot be compressed; the rest is text.
PICTURES_SHARE = 0.115
FILES_PER_FOLDER = 25
# The folder that is restored alone.
SMALL_FOLDER = "notes"
SMALL_FILES, SMALL_FILE_BYTES = 20, 6_000


def build(data: Path, scale: float) -> None:
    """Build the corpus into `data` (which exists and is empty)."""
    rng = random.Random(51)
    words = mixed.Words(rng, seed=52)
    small = data / SMALL_FOLDER
    small.mkdir()
    for number in range(SMALL_FILES):
        (small / f"note-{number:02}.txt").write_bytes(text(words, SMALL_FILE_BYTES))
    large = max(1, round(LARGE_FILES * scale))
    folder = data / "videos"
    folder.mkdir()
    for number in range(large):
        (folder / f"video-{number:02}.mp4").write_bytes(rng.randbytes(LARGE_BYTES // LARGE_FILES))
    others = max(1, round((FILES - LARGE_FILES - SMALL_FILES) * scale))
    total = (TOTAL_BYTES - LARGE_BYTES) * scale - SMALL_FILES * SMALL_FILE_BYTES
    for number, size in enumerate(sizes(rng, others, total)):
        path = data / place(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        is_picture = rng.random() < PICTURES_SHARE
        path = path.with_suffix(".jpg" if is_picture else ".txt")
        path.write_bytes(rng.randbytes(size) if is_picture else text(words, size))


def sizes(rng: random.Random, count: int, total: float) -> list[int]:
    """File sizes in bytes that sum up to about `total`."""
    drawn = [min(MEDIAN_BYTES * rng.lognormvariate(0, SIGMA), LARGEST_BYTES) for _ in range(count)]
    factor = total / sum(drawn)
    return [max(SMALLEST_BYTES, round(size * factor)) for size in drawn]


def place(number: int) -> str:
    """Where a file lies: folders of a few dozen files, some levels deep."""
    folder = number // FILES_PER_FOLDER
    return f"documents/{folder // 60:02}/{folder // 6 % 10}/{folder % 6}/file-{number % FILES_PER_FOLDER:02}"


def text(words: mixed.Words, size: int) -> bytes:
    """Lines of text, `size` bytes of it."""
    parts: list[str] = []
    length = 0
    while length < size:
        line = " ".join(words.take(12)) + "\n"
        parts.append(line)
        length += len(line)
    return "".join(parts).encode("ascii")[:size]
