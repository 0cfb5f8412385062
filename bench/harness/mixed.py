"""The `mixed` corpus: a database, an access log and media, the three shapes of large files.

- `database/shop.sqlite`: orders with text, numbers, tokens and times, and thumbnails as blobs, in
  4 KiB pages. Later it is changed as an application would: scattered updates and appended rows.
- `log/access.log`: web server lines. Later it grows at its end.
- `media/`: incompressible files of 2 to 60 MB.

All of it follows from constant seeds. SQLite writes its own version into the file's header, so
machines with another SQLite differ in a few bytes.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

# Sizes at scale 1, as in the measurements that the goals were set by.
DATABASE_BYTES = 959_000_000
LOG_BYTES = 573_000_000
MEDIA_BYTES = 954_000_000
MEDIA_FILE_BYTES = (2_000_000, 60_000_000)
# The changes at scale 1.
UPDATED_ROWS = 2_000
APPENDED_ROW_BYTES = 4_000_000
APPENDED_LOG_BYTES = 20_000_000

EPOCH_SECONDS = 1_700_000_000
# Orders and their thumbnails alternate in batches this small, so that every stretch of the file holds
# rows that may be updated, as in a table that grew over time.
BATCH_ROWS = 200
# One order in this many has a thumbnail.
THUMBNAIL_EVERY = 18
SHOPS = 200
STATUSES = ["new", "paid", "packed", "shipped", "delivered", "returned", "cancelled"]
SCHEMA = """
    CREATE TABLE orders (
        id INTEGER PRIMARY KEY, shop_id INTEGER NOT NULL, created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL, status TEXT NOT NULL, total_cents INTEGER NOT NULL,
        customer TEXT NOT NULL, email TEXT NOT NULL, token TEXT NOT NULL, note TEXT NOT NULL);
    CREATE TABLE thumbnails (
        id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL, width INTEGER, height INTEGER, image BLOB);
    CREATE INDEX orders_by_shop ON orders (shop_id, created_at);
"""


def vocabulary(seed: int, count: int) -> list[str]:
    """Pronounceable words, shorter ones first, as in a natural language ordered by frequency."""
    rng = random.Random(seed)
    syllables = [c + v for c in "b c d f g h k l m n p r s t v w st tr pl sh".split() for v in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < count:
        parts = 1 + len(words) * 3 // count + rng.randrange(2)
        words["".join(rng.choices(syllables, k=parts)) + rng.choice(["", "n", "s", "r", "l"])] = None
    return list(words)


class Words:
    """Text whose words follow Zipf's law; draws are made in bulk, which is what makes it fast."""

    def __init__(self, rng: random.Random, seed: int = 1) -> None:
        self.rng = rng
        self.words = vocabulary(seed, 8_000)
        total = 0.0
        self.weights = [total := total + 1.0 / (rank + 3) for rank in range(len(self.words))]
        self.pool: list[str] = []

    def take(self, count: int) -> list[str]:
        """The next `count` words."""
        if len(self.pool) < count:
            self.pool = self.rng.choices(self.words, cum_weights=self.weights, k=200_000)
        taken = self.pool[-count:]
        del self.pool[-count:]
        return taken


def build(data: Path, scale: float) -> None:
    """Build the corpus into `data` (which exists and is empty)."""
    for folder in ("database", "log", "media"):
        (data / folder).mkdir()
    build_database(data / "database" / "shop.sqlite", round(DATABASE_BYTES * scale))
    write_log(data / "log" / "access.log", round(LOG_BYTES * scale), seed=21)
    write_media(data / "media", round(MEDIA_BYTES * scale))


def build_database(path: Path, size: int) -> None:
    """Insert orders until the file has `size` bytes."""
    database = open_database(path)
    database.executescript(SCHEMA)
    maker = OrderMaker(seed=11)
    while page_count(database) * 4096 < size:
        insert(database, maker, BATCH_ROWS)
    database.commit()
    database.close()


def open_database(path: Path) -> sqlite3.Connection:
    """A connection that writes in place and fast; nothing here needs to survive a crash."""
    database = sqlite3.connect(path)
    for pragma in ("page_size = 4096", "journal_mode = off", "synchronous = off", "cache_size = -400000"):
        database.execute(f"PRAGMA {pragma}")
    return database


def page_count(database: sqlite3.Connection) -> int:
    """How many pages the database has by now."""
    return database.execute("PRAGMA page_count").fetchone()[0]


class OrderMaker:
    """Makes rows of the orders table and their thumbnails, in order of id."""

    def __init__(self, seed: int, first_id: int = 1) -> None:
        self.rng = random.Random(seed)
        self.words = Words(self.rng)
        self.next_id = first_id
        # A fixed pace ties the time to the id, so a maker can go on where another ended.
        self.pace_seconds = 20

    def orders(self, count: int) -> Iterator[tuple]:
        """The next `count` orders."""
        rng, words = self.rng, self.words
        for _ in range(count):
            order_id = self.next_id
            self.next_id += 1
            created = EPOCH_SECONDS + order_id * self.pace_seconds + rng.randrange(self.pace_seconds)
            first, last, domain = words.take(3)
            yield (
                order_id,
                rng.randrange(SHOPS),
                created,
                created + rng.randrange(1_000_000),
                rng.choice(STATUSES),
                int(rng.expovariate(1 / 6_000)),
                f"{first.title()} {last.title()}",
                f"{first}.{last}{rng.randrange(10_000)}@{domain}.example",
                f"{rng.getrandbits(160):040x}",
                " ".join(words.take(rng.randrange(4, 36))),
            )

    def thumbnails(self, first: int, last: int) -> Iterator[tuple]:
        """The thumbnails of orders `first` to `last`."""
        for order_id in range(first, last + 1):
            if order_id % THUMBNAIL_EVERY == 0:
                image = self.rng.randbytes(self.rng.randrange(400, 2_800))
                yield (order_id, 160, 120, image)


def insert(database: sqlite3.Connection, maker: OrderMaker, count: int) -> None:
    """Insert the maker's next `count` orders with their thumbnails."""
    first = maker.next_id
    database.executemany("INSERT INTO orders VALUES (?,?,?,?,?,?,?,?,?,?)", maker.orders(count))
    images = maker.thumbnails(first, maker.next_id - 1)
    database.executemany("INSERT INTO thumbnails (order_id, width, height, image) VALUES (?,?,?,?)", images)


def change_database(path: Path, scale: float) -> None:
    """Update scattered rows in place, then append rows: what a day does to a database."""
    database = open_database(path)
    rng = random.Random(12)
    last_id = database.execute("SELECT max(id) FROM orders").fetchone()[0]
    for order_id in rng.sample(range(1, last_id + 1), min(last_id, round(UPDATED_ROWS * scale) or 1)):
        values = (rng.choice(STATUSES), int(rng.expovariate(1 / 6_000)), rng.randrange(90_000), order_id)
        statement = "UPDATE orders SET status=?, total_cents=?, updated_at=updated_at+? WHERE id=?"
        database.execute(statement, values)
    maker = OrderMaker(seed=13, first_id=last_id + 1)
    end = page_count(database) * 4096 + round(APPENDED_ROW_BYTES * scale)
    while page_count(database) * 4096 < end:
        insert(database, maker, BATCH_ROWS // 2)
    database.commit()
    database.close()


def write_log(path: Path, size: int, seed: int, first_line: int = 0) -> None:
    """Write about `size` bytes of access log; times go on from `first_line`."""
    written, line = 0, first_line
    maker = LogMaker(seed)
    with path.open("wb") as log:
        while written < size:
            block = "".join(maker.lines(line, 5_000)).encode()
            log.write(block)
            written += len(block)
            line += 5_000


class LogMaker:
    """Makes access log lines: few addresses and pages are busy, many are seen now and then."""

    MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()

    def __init__(self, seed: int) -> None:
        shared = random.Random(20)
        words = vocabulary(2, 2_000)
        self.rng = random.Random(seed)
        self.addresses = [".".join(str(shared.randrange(1, 255)) for _ in range(4)) for _ in range(40_000)]
        self.pages = ["/" + "/".join(shared.choices(words, k=shared.randrange(1, 5))) for _ in range(6_000)]
        self.agents = [self.agent(shared) for _ in range(400)]

    @staticmethod
    def agent(rng: random.Random) -> str:
        """A browser's user agent with plausible version numbers."""
        system = rng.choice(["Windows NT 10.0; Win64; x64", "X11; Linux x86_64", "Macintosh; Intel Mac OS X 10_15_7"])
        version = f"{rng.randrange(90, 131)}.0.{rng.randrange(7_000)}.{rng.randrange(200)}"
        return f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version} Safari/537.36"

    def pick(self, items: list[str]) -> str:
        """An item, the first ones far more often."""
        return items[int(len(items) * self.rng.random() ** 4)]

    def lines(self, first: int, count: int) -> Iterator[str]:
        """`count` lines from line number `first` on, seven a second."""
        rng, pick = self.rng, self.pick
        for number in range(first, first + count):
            second = number // 7
            day, clock = divmod(second, 86_400)
            stamp = f"{day % 28 + 1:02}/{self.MONTHS[day // 28 % 12]}/2025:{clock // 3600:02}:{clock // 60 % 60:02}:{clock % 60:02}"
            draw = rng.random()
            status = 200 if draw < 0.85 else 304 if draw < 0.93 else 404 if draw < 0.98 else 500
            query = f"?id={rng.getrandbits(24)}" if rng.random() < 0.4 else ""
            size = 0 if status == 304 else int(rng.expovariate(1 / 14_000))
            referer = "https://www.example.com" + pick(self.pages) if rng.random() < 0.5 else "-"
            yield (
                f'{pick(self.addresses)} - - [{stamp} +0000] "GET {pick(self.pages)}{query} HTTP/1.1" {status} '
                f'{size} "{referer}" "{pick(self.agents)}" {rng.random():.3f} {rng.getrandbits(48):012x}\n'
            )


def write_media(folder: Path, size: int) -> None:
    """Write incompressible files of `size` bytes together; most are small, as photos and clips are."""
    rng = random.Random(31)
    smallest, largest = MEDIA_FILE_BYTES
    number = 0
    while size > 0:
        wanted = int(smallest * (largest / smallest) ** rng.random())
        this = size if size < wanted + smallest else wanted
        size -= this
        with (folder / f"clip-{number:04}.bin").open("wb") as media:
            while this > 0:
                block = rng.randbytes(min(this, 1 << 20))
                media.write(block)
                this -= len(block)
        number += 1
