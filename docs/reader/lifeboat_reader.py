#!/usr/bin/env python3
"""An independent reader of Lifeboat repositories, written from docs/format.md alone. See README.md beside it."""
import argparse, base64, errno, hashlib, hmac, json, os, re, resource, stat, struct, sys
from collections import Counter, OrderedDict, namedtuple
from datetime import datetime
from types import SimpleNamespace
import argon2, argon2.low_level, nacl.bindings, nacl.exceptions, zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MIB = 1 << 20
DATA, META, INDEX, SNAPSHOT, CONFIG = 1, 2, 3, 4, 7                     # kinds of objects
SEGMENT, DIRECTORY, WHOLE = 0, 1, 2                                     # roles of boxes
FILE, DIR, SYMLINK, FIFO, SOCKET, CHAR, BLOCK = range(7)                # types of entries
XATTRS, LINKS, EXTENSIONS, INCOMPLETE = 1, 2, 4, 8                      # flags of entries
CIPHERS = {"xchacha20-poly1305": 1, "aes-256-gcm": 2}
CACHE_BYTES, BATCH = 64 * MIB, 4096

class Failure(Exception):
    """Something stored is missing, damaged or refused; the reader goes on with the rest."""

class Fatal(Exception):
    """Nothing more can be done: (message, exit code)."""

class Problems:
    """Those of one entry: how many, and the first."""
    count, first = 0, ""

    def add(self, problem):
        self.count, self.first = self.count + 1, self.first or str(problem)

BAD_JSON = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
BAD_ENTRY = (OSError, ValueError, OverflowError)                        # what the system refuses: a name, a time …

def require(condition, message):
    if not condition:
        raise Failure(message)

def why(error):
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        raise Fatal(f"cannot go on restoring: {error.strerror}", 1)
    return getattr(error, "strerror", None) or str(error)

def shown(text):
    """Bytes as path text; control characters are escaped too, so that nothing stored plays tricks on a terminal."""
    text = text.decode("utf-8", "surrogateescape").replace("\\", "\\\\") if isinstance(text, bytes) else str(text)
    return "".join(c if c.isprintable() else f"\\x{ord(c) & 0xff:02x}" for c in text)

def say(message):
    print(f"lifeboat_reader: {shown(message)}", file=sys.stderr)

# ---- Decoding ----

class Decoder:
    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def take(self, count):
        require(count <= len(self.data) - self.at, "it ends too early")
        self.at += count
        return self.data[self.at - count:self.at]

    def u8(self):
        return self.take(1)[0]

    def bytes(self):
        return self.take(self.varint())

    def varint(self):
        value = shift = 0
        while (byte := self.u8()) >= 0x80 and shift < 63:
            value, shift = value | (byte & 0x7f) << shift, shift + 7
        value |= byte << shift
        require((byte or not shift) and value < 1 << 64, "a varint is refused")
        return value

    def svarint(self):
        code = self.varint()
        return code >> 1 ^ -(code & 1)

    def end(self):
        require(self.at == len(self.data), "bytes follow its end")

def open_box(object_key, cipher, number, role, codec, plain_length, box):
    require(len(box) >= 16, "a box is too short")
    associated = struct.pack("<BBHII", role, codec, 0, plain_length, len(box) - 16)
    nonce = struct.pack("<Q", number).ljust(24 if cipher == 1 else 12, b"\0")
    try:
        if cipher == 1:
            data = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(box, associated, nonce, object_key)
        else:
            data = AESGCM(object_key).decrypt(nonce, box, associated)
        if codec == 1:
            require(data[:4] == b"\x28\xb5\x2f\xfd" and zstandard.frame_content_size(data) in (-1, plain_length),
                    "its zstd frame is not as declared")
            data = zstandard.ZstdDecompressor().decompress(data, max(plain_length, 1), allow_extra_data=False)
    except (nacl.exceptions.CryptoError, InvalidTag):
        raise Failure("a box is not authentic (damaged or forged)")
    except zstandard.ZstdError as error:
        raise Failure(f"zstd: {error}")
    require(codec <= 1 and len(data) == plain_length, "its plain length is wrong")
    return data

class Content(namedtuple("Content", "level count length raw")):
    """A content, checked once and kept as bytes; its entries are decoded again whenever they are walked."""
    def __iter__(self):
        d = Decoder(self.raw)
        for _ in range(self.count):
            code = d.varint()
            yield code >> 1, None if code & 1 else d.take(16)

def decode_content(d):
    level, count, length, start = d.u8(), d.varint(), 0, d.at
    require(level <= 8, "a content has too many levels")
    for _ in range(count):
        code = d.varint()
        require(code > 1 and not (level and code & 1), "a content has an entry of no length or a misplaced hole")
        length += code >> 1
        d.take(0 if code & 1 else 16)
    return Content(level, count, length, d.data[start:d.at])

def decode_node(data):
    """Yields a node's entries one by one, so that those before a damaged one are had."""
    d = Decoder(data)
    require(d.u8() == 1, "a node's version is unknown")
    d.varint()                                                          # device
    for _ in range(2):                                                  # names of users, names of groups
        for _ in range(d.varint()):
            d.varint(), d.bytes()
    for _ in range(d.varint()):
        e = SimpleNamespace(name=d.bytes(), type=d.u8(), flags=d.varint(), mode=d.varint(), uid=d.varint(),
                            gid=d.varint(), links=1, xattrs=[], content=None, size=0, target=b"", rdev=(0, 0))
        require(e.type <= BLOCK and e.flags < 16 and e.mode < 0o10000, "an entry's type, flags or mode are refused")
        seconds, nanoseconds, _, ctime_nanoseconds = d.svarint(), d.varint(), d.svarint(), d.varint()
        require(max(nanoseconds, ctime_nanoseconds) < 10**9, "a time has too many nanoseconds")
        e.mtime, e.inode = seconds * 10**9 + nanoseconds, d.varint()
        if e.flags & LINKS:
            e.links, e.device = d.varint(), d.varint()
            require(e.links > 1, "an entry's links are refused")
        if e.flags & XATTRS:
            e.xattrs = [(d.bytes(), d.bytes()) for _ in range(d.varint())]
        for _ in range(d.varint() if e.flags & EXTENSIONS else 0):
            d.varint(), d.bytes()
        if e.type == FILE:
            e.size, e.content = d.varint(), decode_content(d)
        elif e.type == DIR:
            e.content, e.entries_below, e.size = decode_content(d), d.varint(), d.varint()
        elif e.type == SYMLINK:
            e.target = d.bytes()
        elif e.type in (CHAR, BLOCK):
            e.rdev = d.varint(), d.varint()
        yield e
    d.end()

def decode_pack_directory(d):
    """A list of (number, box length, plain length, codec, [(id, length)]), one of each segment."""
    segments, numbers = [], {2**32 - 1}
    for _ in range(d.varint()):
        number, box_length, plain_length, codec = d.varint(), d.varint(), d.varint(), d.u8()
        chunks = [(d.take(16), d.varint()) for _ in range(d.varint())]
        require(number < 2**32 and number not in numbers and codec <= 1, "a segment's number or codec is refused")
        require(plain_length <= 16 * MIB and 16 <= box_length <= 17 * MIB, "a segment is too long")
        require(chunks and all(n for _, n in chunks) and sum(n for _, n in chunks) == plain_length,
                "a segment's chunks do not sum to its length")
        numbers.add(number)
        segments.append((number, box_length, plain_length, codec, chunks))
    return segments

# ---- Keys ----

def read_key_file(path):
    try:
        with open(path, encoding="utf-8") as file:
            text = "".join(line for line in file.read(1 << 16).splitlines() if not line.startswith("#"))
    except (OSError, UnicodeDecodeError) as error:
        raise Fatal(f"{path}: cannot read the key file: {why(error)}", 1)
    text = re.sub(r"[\s-]", "", text).upper().translate(str.maketrans("OIL", "011"))
    if match := re.fullmatch("1B1([0-9A-HJKMNP-TV-Z]{56})", text):      # LB1, its L read as 1
        digits = str.maketrans("0123456789ABCDEFGHJKMNPQRSTVWXYZ", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
        data = base64.b32decode(match[1].translate(digits))
        if blake3(data[:32]).digest()[:3] == data[32:]:
            return data[:32]
    raise Fatal(f"{path}: this is no key file, or it is mistyped", 12)

def open_slot(slot, slot_id, kind, secret):
    """(repository id, master key); or None if the secret is another, False if it is of the other kind."""
    require(len(slot) >= 165 and len(slot) == 165 + slot[84] and slot[84] <= 128, "its length is wrong")
    magic, version, slot_kind, cipher, purpose, repository, own_id, _, memory, passes, lanes, salt = \
        struct.unpack("<4sBBBB16s8sQIII32s", slot[:84])
    require(magic == b"LBKY" and version == 1 and slot_kind in (1, 2) and cipher == 1 and purpose <= 2 and
            own_id.hex() == slot_id, "it is not a key slot of version 1, or of another name")
    if slot_kind != kind:
        return False
    head, commitment, wrapped = slot[:-80], slot[-80:-48], slot[-48:]
    try:
        if kind == 1:
            require(memory <= MIB and passes <= 16 and lanes <= 16, "its Argon2 parameters are over the limits")
            material = argon2.low_level.hash_secret_raw(secret, salt, passes, memory, lanes, 32,
                                                        argon2.low_level.Type.ID, 0x13)
        else:
            material = blake3(salt, key=secret).digest()
        expected, wrap_key = (blake3(material + head, derive_key_context=f"lifeboat 2026-11-21 v1 slot {use}").digest()
                              for use in ("commitment", "wrap"))
        if not hmac.compare_digest(expected, commitment):
            return None
        return repository, nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(wrapped, head, bytes(24), wrap_key)
    except (argon2.exceptions.HashingError, nacl.exceptions.CryptoError) as error:
        raise Failure(f"cannot open it: {error}")

# ---- The repository ----

class Repository:
    def __init__(self, root, kind, secret):
        self.root, self.errors, self.cipher, clear = root, 0, None, None
        self.packs, self.segments, self.places, self.more, self.scanned = {}, [], {}, {}, False
        self.cache, self.cached = OrderedDict(), 0
        if not os.path.exists(os.path.join(root, "config")):
            raise Fatal(f"{root}: there is no Lifeboat repository", 10)
        try:
            d = Decoder(self.read("config", limit=MIB))
            require(d.take(8) == b"LIFEBOAT", "it does not begin as a Lifeboat repository does")
            if (version := int.from_bytes(d.take(2), "little")) > 1:
                raise Fatal(f"config: format version {version} is newer than this reader", 1)
            if features := [shown(d.take(d.u8())) for _ in range(d.u8())]:
                raise Fatal(f"config: this reader does not know the required feature {features[0]}", 1)
            clear = version, features, d.take(16)
        except Failure as failure:                                      # the other objects tell enough to go on
            self.error(f"config: {failure}")
        self.id, master = self.unlock(kind, secret, clear and clear[2])
        self.data_key, self.meta_key, self.seal_key = (
            blake3(master, derive_key_context=f"lifeboat 2026-11-21 v1 {use}").digest()
            for use in ("data chunk id", "metadata chunk id", "seal"))
        try:
            if clear:
                sealed = json.loads(self.open_whole(d.data[d.at:], CONFIG))
                require((sealed["version"], sealed["features"], sealed["repository_id"]) ==
                        (*clear[:2], clear[2].hex()), "its clear header was changed")
                self.cipher = CIPHERS[sealed["cipher"]]
        except (Failure, *BAD_JSON) as failure:
            self.error(f"config: {failure if isinstance(failure, Failure) else 'its JSON is not that of a config'}")

    def error(self, message):
        self.errors += 1
        say(message)

    def read(self, key, at=0, count=None, limit=None):
        """`count` bytes from `at`, or all of at most `limit` bytes; with a negative `at`, from the end."""
        try:
            with open(os.open(os.path.join(self.root, key), os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                info = os.fstat(file.fileno())
                at, count = at + info.st_size if at < 0 else at, info.st_size if count is None else count
                require(stat.S_ISREG(info.st_mode) and (limit is None or count <= limit), "no file, or too long")
                require(0 <= at and at + count <= info.st_size, "it ends too early")
                return os.pread(file.fileno(), count, at)               # if shorter, its box does not open
        except OSError as error:
            raise Failure(why(error))

    def names(self, folder, pattern):
        try:
            return sorted(n for n in os.listdir(os.path.join(self.root, folder)) if re.fullmatch(pattern, n))
        except OSError as error:
            if error.errno != errno.ENOENT:
                self.error(f"{folder}: {why(error)}")
            return []

    def unlock(self, kind, secret, repository_id):
        tried = damaged = other = False
        for name in self.names("keys", "[0-9a-f]{16}"):
            try:
                opened = open_slot(self.read(f"keys/{name}", limit=1024), name, kind, secret)
                if opened and opened[0] == repository_id:
                    return opened
                other, tried = other or opened, tried or opened is None
            except Failure as failure:
                damaged = True
                say(f"keys/{name}: {failure}")
        if other:                                                       # it is config whose id is damaged
            return other
        raise Fatal("no key slot for this kind of key could be read", 1) if damaged and not tried else \
            Fatal("wrong key: it opens no key slot of this repository", 12)

    def header(self, kind, cipher, salt):
        return struct.pack("<4sBBBB16s32s", b"LBOX", 1, kind, 0, cipher, self.id, salt)

    def object_key(self, header, kind):
        require(len(header) == 56 and header[7] in CIPHERS.values() and
                header == self.header(kind, header[7], header[24:]), "its header is damaged or of another repository")
        return blake3(header, key=self.seal_key).digest(), header[7]

    def open_whole(self, data, kind):
        key, cipher = self.object_key(data[:56], kind)
        require(len(data) >= 80, "it ends too early")
        codec, zeros, plain_length = struct.unpack("<B3sI", data[56:64])
        require(zeros == bytes(3) and codec <= 1 and plain_length <= 64 * MIB, "its codec or length is refused")
        plain = open_box(key, cipher, 0, WHOLE, codec, plain_length, data[64:])
        self.cipher = self.cipher or cipher                             # in case config cannot tell
        return plain

    def read_whole(self, key, kind):
        data = self.read(key, limit=65 * MIB)
        require(hashlib.sha256(data).hexdigest() == key[-64:], "it is damaged: its SHA-256 is not its name")
        return self.open_whole(data, kind)

    def snapshots(self, prefix=""):
        """The readable snapshots, oldest first."""
        found = []
        for name in self.names("snapshots", prefix + f"[0-9a-f]{{{64 - len(prefix)}}}"):
            try:
                found.append(self.snapshot(name))
            except (Failure, *BAD_JSON) as bad:
                self.error(f"snapshots/{name}: {bad if isinstance(bad, Failure) else 'its JSON is no snapshot'}")
        return sorted(found, key=lambda s: s.order)

    def snapshot(self, name):
        fields = json.loads(self.read_whole(f"snapshots/{name}", SNAPSHOT))
        require(fields["version"] == 1, "its version is unknown")
        root, *others = decode_node(bytes.fromhex(fields["root"]))
        require(root.name == b"" and root.type == DIR and not others, "its root is not /")
        day, fraction, offset = re.fullmatch(r"(\S{19})(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", fields["time"]).groups()
        order = datetime.fromisoformat(day + offset).timestamp(), (fraction or "").ljust(9, "0"), name
        return SimpleNamespace(id=name, time=fields["time"], host=fields["host"], paths=list(fields["paths"]),
                               root=root, order=order, errors=fields.get("errors_total", 0))

    # -- Chunks --

    def load_index(self):
        shards, replaced = {}, set()
        for name in self.names("index", "[0-9a-f]{64}"):
            try:
                d = Decoder(self.read_whole(f"index/{name}", INDEX))
                replaced.update(d.take(32).hex() for _ in range(d.varint()))
                shards[name] = d
            except Failure as failure:
                self.error(f"index/{name}: {failure}")
        for name in shards.keys() - replaced:
            try:
                d = shards.pop(name)
                for _ in range(d.varint()):
                    sha, salt, kind, size = d.take(32).hex(), d.take(32), d.u8(), d.varint()
                    require(kind in (DATA, META), "a pack's kind is unknown")
                    self.add_pack(sha, kind, self.header(kind, self.cipher, salt), size, decode_pack_directory(d))
                d.end()
            except Failure as failure:
                self.error(f"index/{name}: {failure}")

    def add_pack(self, sha, kind, header, size, segments):
        require(56 + sum(s[1] for s in segments) + 32 <= size, "a pack is shorter than its segments")
        if sha in self.packs:
            return
        self.packs[sha], at = (f"{'packs' if kind == DATA else 'meta'}/{sha[:2]}/{sha}", header), 56
        for number, box_length, plain_length, codec, chunks in segments:
            place = len(self.segments) << 50                            # a place: segment, offset in it, length
            self.segments.append((sha, at, box_length, number, codec, plain_length))
            at += box_length
            for chunk, length in chunks:
                if self.places.setdefault(chunk, place | length) != place | length:
                    self.more.setdefault(chunk, []).append(place | length)
                place += length << 25

    def scan_packs(self):
        """When a chunk is missed: reads, once, the directories of the packs that no readable index shard names."""
        self.scanned = True
        for kind, folder in (META, "meta"), (DATA, "packs"):
            for sub in self.names(folder, "[0-9a-f]{2}"):
                for sha in self.names(f"{folder}/{sub}", f"{sub}[0-9a-f]{{62}}"):
                    try:
                        if sha not in self.packs:
                            self.scan_pack(f"{folder}/{sub}/{sha}", kind)
                    except Failure as failure:
                        self.error(f"{folder}/{sub}/{sha}: {failure}")

    def scan_pack(self, key, kind):
        header, footer = self.read(key, 0, 56), self.read(key, -16, 16)
        object_key, cipher = self.object_key(header, kind)
        box_length, plain_length, codec, end = struct.unpack("<IIB7s", footer)
        require(end == b"\0\0\0LBPD" and codec <= 1, "its footer is damaged")
        require(box_length <= 65 * MIB and plain_length <= 64 * MIB, "its directory is too long")
        box = self.read(key, -16 - box_length, box_length)
        d = Decoder(open_box(object_key, cipher, 2**32 - 1, DIRECTORY, codec, plain_length, box))
        segments = decode_pack_directory(d)
        d.end()
        at = 56 + sum(s[1] for s in segments)
        require(self.read(key, at, box_length) == box, "its segments do not end where its directory begins")
        self.add_pack(key[-64:], kind, header, at + box_length + 16, segments)

    def segment(self, index):
        """A segment's plain bytes (or the failure to have them) through a small cache."""
        if index not in self.cache:
            sha, at, box_length, number, codec, plain_length = self.segments[index]
            key, header = self.packs[sha]
            try:
                box, object_key = self.read(key, at, box_length), blake3(header, key=self.seal_key).digest()
                self.cache[index] = open_box(object_key, header[7], number, SEGMENT, codec, plain_length, box)
            except Failure as failure:
                self.cache[index] = f"{key}, segment {number}: {failure}"
            self.cached += plain_length
            while self.cached > CACHE_BYTES:
                self.cached -= self.segments[self.cache.popitem(last=False)[0]][5]
        self.cache.move_to_end(index)
        require(isinstance(self.cache[index], bytes), self.cache[index])
        return self.cache[index]

    def chunk(self, chunk, length, id_key):
        """A chunk from the first of its places that holds it whole. The length of a list is known to the index only."""
        failure = Failure(f"chunk {chunk.hex()} is missing")
        for second_time in (False, True):
            if second_time and not self.scanned:
                self.scan_packs()
            for place in [self.places[chunk], *self.more.get(chunk, [])] if chunk in self.places else []:
                try:
                    offset, count = place >> 25 & 0x1ffffff, place & 0x1ffffff
                    require(length in (None, count), f"chunk {chunk.hex()} has another length")
                    data = memoryview(self.segment(place >> 50))[offset:offset + count]
                    require(blake3(data, key=id_key).digest()[:16] == chunk, f"chunk {chunk.hex()} is damaged")
                    return data
                except Failure as found:
                    failure = found
        raise failure

    def leaves(self, content, problems, offset=0):
        """Yields (offset, length, id or None) of a content's chunks and holes; passes over what a bad list covers."""
        for length, chunk in content:
            if content.level == 0:
                yield offset, length, chunk
            else:
                try:
                    d = Decoder(self.chunk(chunk, None, self.meta_key))
                    part = decode_content(d)
                    d.end()
                    require((part.level, part.length) == (content.level - 1, length), "a list is not as declared")
                    yield from self.leaves(part, problems, offset)
                except Failure as failure:
                    problems.add(failure)
            offset += length

    def entries(self, directory, problems):
        previous = b""
        for _, length, chunk in self.leaves(directory.content, problems):
            try:
                require(chunk, "its content has a hole")
                for entry in decode_node(self.chunk(chunk, length, self.meta_key)):
                    if previous < entry.name not in (b".", b"..") and not {0, 47} & set(entry.name):
                        previous = entry.name
                        yield entry
                    else:
                        problems.add(f"refused the name or the order of the entry {shown(entry.name)}")
            except Failure as failure:
                problems.add(failure)

# ---- Restoring ----

class Restore:
    """Walks the tree without recursion and by open directories, so that no path is resolved anew."""
    def __init__(self, repository, out):
        self.repository, self.out, self.root = repository, out, os.geteuid() == 0
        self.linked, self.counts, self.notes = {}, Counter(), Counter()

    def report(self, path, problems):
        if problems.count:
            more = f" (and {problems.count - 1} more problems)" if problems.count > 1 else ""
            self.repository.error(f"{shown(path or b'/')}: {problems.first}{more}")

    def run(self, root):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))        # one for each level of directories
        new = not os.path.exists(self.out)
        try:
            os.makedirs(self.out, exist_ok=True)
            self.top = os.open(self.out, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise Fatal(f"{self.out}: {why(error)}", 1)
        stack = [(root, b"", self.top, problems := Problems(), self.repository.entries(root, problems))]
        while stack:
            directory, path, fd, problems, entries = stack[-1]
            if e := next(entries, None):
                below, found = path + b"/" + e.name, Problems()
                try:
                    if e.type == DIR:
                        stack.append((e, below, self.enter(e.name, fd), found, self.repository.entries(e, found)))
                        continue
                    self.entry(e, below, fd, found)
                except BAD_ENTRY as error:
                    found.add(why(error))
                self.report(below, found)
            else:
                if path or new:                                         # an OUT that was there keeps its own metadata
                    self.metadata(directory, problems, fd)
                self.report(path, problems)
                stack.pop()
                os.close(fd)

    def enter(self, name, parent):
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            pass                                                        # one that was there serves, but no symlink does
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)

    def entry(self, e, path, parent, problems):
        if e.type == SOCKET or e.type in (CHAR, BLOCK) and not self.root:
            self.notes["sockets skipped" if e.type == SOCKET else "devices skipped: only root can make them"] += 1
        elif e.links > 1 and self.link(e, path, parent, problems):
            return
        elif e.type == FILE:
            fd = os.open(e.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=parent)
            try:
                self.write(e, fd, problems)
                self.metadata(e, problems, fd)
            finally:
                os.close(fd)
        else:
            if e.type == SYMLINK:
                os.symlink(e.target, e.name, dir_fd=parent)
            else:
                kind = {FIFO: stat.S_IFIFO, CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK}[e.type]
                os.mknod(e.name, kind | 0o600, os.makedev(*e.rdev), dir_fd=parent)
            self.metadata(e, problems, e.name, parent)

    def link(self, e, path, parent, problems):
        """Whether this name was linked to one restored before. The first name is remembered for the others."""
        key = blake3(repr((e.device, e.inode, e.type, e.size, e.content, e.target, e.rdev)).encode()).digest()
        first = self.linked.setdefault(key, [path, e.links])
        first[1] -= 1
        if not first[1]:
            del self.linked[key]
        try:
            if first[0] != path:
                os.link(first[0][1:], e.name, src_dir_fd=self.top, dst_dir_fd=parent, follow_symlinks=False)
            return first[0] != path
        except FileExistsError:
            raise
        except OSError as error:
            problems.add(f"restored apart from {shown(first[0])}, cannot link them: {why(error)}")
            return False

    def write(self, e, fd, problems):
        batch = []
        if e.flags & INCOMPLETE:
            self.notes["files incomplete in the snapshot (see the errors of the backup)"] += 1
        elif e.content.length != e.size:
            problems.add(f"its content has {e.content.length} bytes, but it should have {e.size}")
        try:
            os.ftruncate(fd, e.content.length)                          # what is not written is a hole
            for offset, length, chunk in self.repository.leaves(e.content, problems):
                if chunk:
                    batch.append((self.repository.places.get(chunk, -1), offset, length, chunk))
                if len(batch) == BATCH:
                    self.write_batch(batch, fd, problems)
            self.write_batch(batch, fd, problems)
        except BAD_ENTRY as error:
            problems.add(why(error))
        self.counts["bytes"] += e.content.length

    def write_batch(self, batch, fd, problems):
        for _, offset, length, chunk in sorted(batch):                  # by place, so that no segment is decoded twice
            try:
                data = self.repository.chunk(chunk, length, self.repository.data_key)
                while len(data):
                    written = os.pwrite(fd, data, offset)
                    data, offset = data[written:], offset + written
            except Failure as failure:
                problems.add(failure)
        batch.clear()

    def metadata(self, e, problems, target, parent=None):
        """Of an open file or directory; or of the name `target` in `parent`, which is never followed."""
        named = {} if parent is None else {"follow_symlinks": False}
        within = {} if parent is None else {"dir_fd": parent}
        xattr_target = target if parent is None else b"/proc/self/fd/%d/%s" % (parent, target)

        def attempt(what, function, *arguments, **keywords):
            try:
                function(*arguments, **keywords)
            except BAD_ENTRY as error:
                problems.add(f"cannot set its {what}: {why(error)}")

        mode = e.mode
        if self.root:
            attempt("owner", os.chown, target, e.uid, e.gid, **named, **within)
        elif e.type != DIR and (e.uid, e.gid) != (os.geteuid(), os.getegid()):
            mode &= 0o1777                                              # no setuid program of another owner
        for name, value in e.xattrs:
            if self.root or name.startswith((b"user.", b"system.posix_acl_")):
                attempt(f"attribute {shown(name)}", os.setxattr, xattr_target, name, value, **named)
            else:
                self.notes["extended attributes skipped: only root can set them"] += 1
        if e.type != SYMLINK:
            attempt("mode", os.chmod, target, mode, **within)
        attempt("time", os.utime, target, ns=(e.mtime, e.mtime), **named, **within)
        self.counts["entries"] += 1

# ---- The program ----

def run(options):
    passphrase = os.environb.get(b"LIFEBOAT_PASSPHRASE")
    if not options.key_file and passphrase is None:
        raise Fatal("no key: set LIFEBOAT_PASSPHRASE or give --key-file", 1)
    key = (2, read_key_file(options.key_file)) if options.key_file else (1, passphrase)
    repository = Repository(options.repo, *key)
    if options.command == "list":
        for s in repository.snapshots():
            print(s.id, shown(s.time), shown(s.host), f"entries={s.root.entries_below} bytes={s.root.size} "
                  f"errors={shown(s.errors)}", *map(shown, s.paths))
    else:
        prefix = "" if options.snapshot == "latest" else options.snapshot
        found = repository.snapshots(prefix) if options.snapshot and re.fullmatch("[0-9a-f]{0,64}", prefix) else []
        if not found or prefix and len(found) > 1:
            raise Fatal(f"{options.snapshot}: {len(found) or 'no'} readable snapshots are named so", 1)
        repository.load_index()
        restore = Restore(repository, options.out)
        restore.run(found[-1].root)
        for note, count in restore.notes.items():
            say(f"note: {count} {note}")
        print(f"snapshot {found[-1].id}: {restore.counts['entries']} entries, {restore.counts['bytes']} bytes of files "
              f"restored to {shown(options.out)}, {repository.errors} problems")
    sys.stdout.flush()
    return 1 if repository.errors else 0

def main():
    parser = argparse.ArgumentParser(description="Lists and restores the snapshots of a Lifeboat repository.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, *arguments in ("list", "repo"), ("restore", "repo", "snapshot", "out"):
        command = commands.add_parser(name)
        command.add_argument("--key-file", help="instead of the environment's LIFEBOAT_PASSPHRASE")
        for argument in arguments:
            command.add_argument(argument)
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return run(parser.parse_args())
    except Fatal as fatal:
        say(fatal.args[0])
        return fatal.args[1]
    except KeyboardInterrupt:
        say("interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)                    # nobody reads on
    except Exception as error:
        say(f"{type(error).__name__}: {error}")
    return 1

if __name__ == "__main__":
    sys.exit(main())
