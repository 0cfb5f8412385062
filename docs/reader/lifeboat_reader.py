#!/usr/bin/env python3
"""An independent reader of Lifeboat repositories, written from docs/format.md alone. See README.md beside it."""
import argparse, base64, errno, hashlib, hmac, json, os, re, resource, stat, struct, sys
from collections import Counter, OrderedDict
from datetime import datetime
from types import SimpleNamespace
import argon2, argon2.low_level, nacl.bindings, nacl.exceptions, zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MIB = 1 << 20
DATA, META, INDEX, SNAPSHOT, FORGOTTEN, CONFIG = 1, 2, 3, 4, 5, 7       # kinds of objects
SEGMENT, WHOLE = 0, 2                                                   # roles of boxes
FILE, DIR, SYMLINK, FIFO, SOCKET, CHAR, BLOCK = range(7)                # types of entries
XATTRS, LINKS, EXTENSIONS, INCOMPLETE = 1, 2, 4, 8                      # flags of entries
CIPHERS = {"xchacha20-poly1305": 1, "aes-256-gcm": 2}
CACHE_BYTES = 64 * MIB

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

def derive(use, material):
    return blake3(material, derive_key_context=f"lifeboat 2026-11-21 v1 {use}").digest()

def open_box(object_key, cipher, number, role, codec, plain_length, box):
    coded_length = len(box) - 16
    require(coded_length == plain_length if codec == 0 else codec == 1 and 0 <= coded_length < plain_length,
            "a box's codec or length is refused")
    associated = struct.pack("<BBHII", role, codec, 0, plain_length, coded_length)
    nonce = struct.pack("<Q", number).ljust(24 if cipher == 1 else 12, b"\0")
    try:
        if cipher == 1:
            data = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(box, associated, nonce, object_key)
        else:
            data = AESGCM(object_key).decrypt(nonce, box, associated)
        if codec == 1:
            require(zstandard.frame_content_size(data) in (-1, plain_length), "its zstd frame is not as declared")
            data = zstandard.ZstdDecompressor().decompress(data, plain_length, allow_extra_data=False)
    except (nacl.exceptions.CryptoError, InvalidTag):
        raise Failure("a box is not authentic (damaged or forged)")
    except zstandard.ZstdError as error:
        raise Failure(f"zstd: {error}")
    require(len(data) == plain_length, "its plain length is wrong")
    return data

def decode_content(d):
    content = SimpleNamespace(level=d.u8(), length=0, entries=[])
    require(content.level <= 8, "a content has too many levels")
    for _ in range(d.varint()):
        code = d.varint()
        require(code > 1 and not (content.level and code & 1), "a content has an entry of no length or a misplaced hole")
        content.length += code >> 1
        content.entries.append((code >> 1, None if code & 1 else d.take(16)))
    return content

def decode_node(data):
    """Yields a node's entries one by one, so that those before a damaged one are had."""
    d = Decoder(data)
    require(d.u8() == 1, "a node's version is unknown")
    d.varint()                                                          # device
    for _ in "users", "groups":
        owners = [(d.varint(), d.bytes())[0] for _ in range(d.varint())]
        require(all(a < b for a, b in zip(owners, owners[1:])), "a node's owners are out of order")
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
            require(e.size == e.content.length, "a file's content is not as long as the file")
        elif e.type == DIR:
            e.content, e.entries_below, e.size = decode_content(d), d.varint(), d.varint()
        elif e.type == SYMLINK:
            e.target = d.bytes()
        elif e.type in (CHAR, BLOCK):
            e.rdev = d.varint(), d.varint()
        yield e
    d.end()

# ---- Keys ----

def read_key_file(path):
    try:
        with open(path, encoding="utf-8") as file:
            text = "".join(line for line in file.read(1 << 16).splitlines() if not line.startswith("#"))
    except (OSError, UnicodeDecodeError) as error:
        raise Fatal(f"{path}: cannot read the key file: {why(error)}", 1)
    if match := re.fullmatch("LB1([0-9A-TV-Z]{56})", re.sub(r"[\s-]", "", text).upper()):
        digits = str.maketrans("0123456789ABCDEFGHJKMNPQRSTVWXYZOIL", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABB")
        data = base64.b32decode(match[1].translate(digits))
        if blake3(data[:32]).digest()[:3] == data[32:]:
            return data[:32]
    raise Fatal(f"{path}: this is no key file, or it is mistyped", 12)

def open_slot(slot, name, repository, kind, secret):
    """The master key; None if the slot's secret is another."""
    require(len(slot) >= 181 and len(slot) == 181 + slot[84] and slot[84] <= 128 and
            blake3(slot[:-16]).digest()[:16] == slot[-16:], "it is damaged: its length or checksum is wrong")
    head, commitment, wrapped = slot[:-96], slot[-96:-64], slot[-64:-16]
    magic, version, slot_kind, cipher, purpose, slot_repository, slot_id, _, memory, passes, lanes, salt = \
        struct.unpack("<4sBBBB16s8sQIII32s", head[:84])
    require((magic, version, cipher) == (b"LBKY", 1, 1) and slot_kind in (1, 2) and purpose <= 2,
            "it is not a key slot of version 1")
    require(slot_repository == repository and slot_id.hex() == name, "it is of another repository or another name")
    if slot_kind != kind:
        return None
    try:
        if kind == 1:
            require(1 <= passes <= 16 and 1 <= lanes <= 16 and 8 * lanes <= memory <= MIB, "its Argon2 cost is refused")
            material = argon2.low_level.hash_secret_raw(secret, salt, passes, memory, lanes, 32,
                                                        argon2.low_level.Type.ID, 0x13)
        else:
            material = blake3(salt, key=secret).digest()
        if not hmac.compare_digest(derive("slot commitment", material + head), commitment):
            return None
        return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(wrapped, head, bytes(24),
                                                                        derive("slot wrap", material + head))
    except (argon2.exceptions.HashingError, nacl.exceptions.CryptoError) as error:
        raise Failure(f"cannot open it: {error}")

# ---- The repository ----

class Repository:
    def __init__(self, root, kind, secret):
        self.root, self.errors = root, 0
        self.segments, self.places, self.cache, self.cached = [], {}, OrderedDict(), 0
        if not os.path.exists(os.path.join(root, "config")):
            raise Fatal(f"{root}: there is no Lifeboat repository", 10)
        try:
            d = Decoder(self.read("config"))
            require(d.take(8) == b"LIFEBOAT", "it does not begin as a Lifeboat repository does")
            if (version := int.from_bytes(d.take(2), "little")) != 1:
                raise Fatal(f"config: this reader does not know format version {version}", 1)
            if features := [shown(d.take(d.u8())) for _ in range(d.u8())]:
                raise Fatal(f"config: this reader does not know the required feature {features[0]}", 1)
            self.id = d.take(16)
            master = self.unlock(kind, secret)
            self.data_key, self.meta_key, self.seal_key = (
                derive(use, master) for use in ("data chunk id", "metadata chunk id", "seal"))
            sealed = json.loads(self.open_whole(d.data[d.at:], CONFIG))
            require((sealed["version"], sealed["features"], sealed["repository_id"]) == (1, [], self.id.hex()),
                    "its clear header was changed")
            self.cipher = CIPHERS[sealed["cipher"]]
        except (Failure, *BAD_JSON) as failure:
            raise Fatal(f"config: {failure if isinstance(failure, Failure) else 'its JSON is not that of a config'}", 1)

    def error(self, message):
        self.errors += 1
        say(message)

    def read(self, key, at=0, count=None):
        """`count` bytes from `at`; or all, but no more than any whole object may have."""
        try:
            with open(os.path.join(self.root, key), "rb") as file:
                file.seek(at)
                data = file.read(65 * MIB if count is None else count)
        except OSError as error:
            raise Failure(why(error))
        require(count in (None, len(data)), "it ends too early")
        return data

    def names(self, folder, pattern="[0-9a-f]{64}"):
        try:
            return sorted(n for n in os.listdir(os.path.join(self.root, folder)) if re.fullmatch(pattern, n))
        except FileNotFoundError:
            return []
        except OSError as error:
            self.error(f"{folder}: {why(error)}")
            return []

    def unlock(self, kind, secret):
        names, damaged = self.names("keys", "[0-9a-f]{16}"), 0
        for name in names:
            try:
                if master := open_slot(self.read(f"keys/{name}", 0, None), name, self.id, kind, secret):
                    return master
            except Failure as failure:
                damaged += 1
                say(f"keys/{name}: {failure}")
        raise Fatal("wrong key: it opens no key slot that could be read", 12) if damaged < len(names) else \
            Fatal("the repository has no key slot that can be read", 1)

    def header(self, kind, cipher, salt):
        return struct.pack("<4sBBBB16s32s", b"LBOX", 1, kind, 0, cipher, self.id, salt)

    def open_whole(self, data, kind):
        require(len(data) >= 80, "it ends too early")
        header, (codec, zeros, plain_length) = data[:56], struct.unpack("<B3sI", data[56:64])
        require(header[7] in CIPHERS.values() and header == self.header(kind, header[7], header[24:]),
                "its header is damaged or of another repository")
        require(zeros == bytes(3) and plain_length <= 64 * MIB, "its length is refused")
        return open_box(blake3(header, key=self.seal_key).digest(), header[7], 0, WHOLE, codec, plain_length, data[64:])

    def read_whole(self, key, kind):
        data = self.read(key)
        require(hashlib.sha256(data).hexdigest() == key[-64:], "it is damaged: its SHA-256 is not its name")
        return self.open_whole(data, kind)

    def each(self, folder, names, decode):
        """Decodes those objects; one that cannot be is reported and passed over."""
        for name in names:
            try:
                yield decode(f"{folder}/{name}")
            except (Failure, *BAD_JSON) as bad:
                self.error(f"{folder}/{name}: {bad if isinstance(bad, Failure) else 'its JSON is not as it should be'}")

    def snapshots(self, prefix=""):
        """The readable snapshots that are not forgotten, oldest first."""
        names, forgotten = [n for n in self.names("snapshots") if n.startswith(prefix)], set()
        for ids in self.each("forgotten", self.names("forgotten"), self.forgotten_ids):
            forgotten.update(ids)
        found = self.each("snapshots", [n for n in names if n not in forgotten], self.snapshot)
        return sorted(found, key=lambda s: s.order)

    def forgotten_ids(self, key):
        fields = json.loads(self.read_whole(key, FORGOTTEN))
        require(fields["version"] == 1, "its version is unknown")
        return [str(snapshot["id"]) for snapshot in fields["forgotten"]]

    def snapshot(self, key):
        fields = json.loads(self.read_whole(key, SNAPSHOT))
        require(fields["version"] == 1, "its version is unknown")
        root, *others = decode_node(bytes.fromhex(fields["root"]))
        require(root.name == b"" and root.type == DIR and not others, "its root is not /")
        day, fraction, offset = re.fullmatch(r"(\S{19})(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", fields["time"]).groups()
        order = (datetime.fromisoformat(day + offset).timestamp(), (fraction or "").ljust(9, "0"),
                 str(fields["writer"]), int(fields["sequence"]))
        return SimpleNamespace(id=key[-64:], time=fields["time"], host=fields["host"], paths=list(fields["paths"]),
                               root=root, order=order, errors=fields.get("errors_total", 0))

    # -- Chunks --

    def load_index(self):
        shards, replaced = {}, set()
        for key, d, replaces in self.each("index", self.names("index"), self.open_shard):
            shards[key[-64:]] = d
            replaced.update(replaces)
        for _ in self.each("index", shards.keys() - replaced, lambda key: self.load_shard(shards.pop(key[-64:]))):
            pass

    def open_shard(self, key):
        d = Decoder(self.read_whole(key, INDEX))
        return key, d, [d.take(32).hex() for _ in range(d.varint())]

    def load_shard(self, d):
        for _ in range(d.varint()):
            sha, salt, kind, size = d.take(32).hex(), d.take(32), d.u8(), d.varint()
            require(kind in (DATA, META), "a pack's kind is unknown")
            key, header = f"{'packs' if kind == DATA else 'meta'}/{sha[:2]}/{sha}", self.header(kind, self.cipher, salt)
            numbers, at = {2**32 - 1}, 56
            for _ in range(d.varint()):
                number, box_length, plain_length, codec = d.varint(), d.varint(), d.varint(), d.u8()
                require(number < 2**32 and number not in numbers, "a segment's number is refused")
                require(16 < box_length <= plain_length + 16 <= 16 * MIB + 16, "a segment's length is refused")
                place = start = len(self.segments) << 50                # a place: segment, offset in it, length
                self.segments.append((key, header, at, box_length, number, codec, plain_length))
                for _ in range(d.varint()):
                    chunk, length = d.take(16), d.varint()
                    require(0 < length <= 8 * MIB, "a chunk's length is refused")
                    self.places.setdefault(chunk, place | length)
                    place += length << 25
                require(place - start == plain_length << 25, "a segment's chunks do not sum to its length")
                numbers.add(number)
                at += box_length
            require(at + 32 <= size, "a pack is shorter than its segments")
        d.end()

    def segment(self, index):
        """A segment's plain bytes (or the failure to have them) through a small cache."""
        if index not in self.cache:
            key, header, at, box_length, number, codec, plain_length = self.segments[index]
            try:
                box, object_key = self.read(key, at, box_length), blake3(header, key=self.seal_key).digest()
                self.cache[index] = open_box(object_key, header[7], number, SEGMENT, codec, plain_length, box)
            except Failure as failure:
                self.cache[index] = f"{key}, segment {number}: {failure}"
            self.cached += plain_length
            while self.cached > CACHE_BYTES:
                self.cached -= self.segments[self.cache.popitem(last=False)[0]][-1]
        self.cache.move_to_end(index)
        require(isinstance(self.cache[index], bytes), self.cache[index])
        return self.cache[index]

    def chunk(self, chunk, length, id_key):
        """A verified chunk. The length of a list is known to the index only."""
        require(chunk in self.places, f"chunk {chunk.hex()} is missing")
        place = self.places[chunk]
        offset, count = place >> 25 & 0x1ffffff, place & 0x1ffffff
        require(length in (None, count), f"chunk {chunk.hex()} has another length")
        data = memoryview(self.segment(place >> 50))[offset:offset + count]
        require(blake3(data, key=id_key).digest()[:16] == chunk, f"chunk {chunk.hex()} is damaged")
        return data

    def leaves(self, content, problems, offset=0):
        """Yields (offset, length, id or None) of a content's chunks and holes; passes over what a bad list covers."""
        for length, chunk in content.entries:
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
            self.file(e, os.open(e.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent), problems)
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
        first = self.linked.setdefault(key, path)
        try:
            if first != path:
                os.link(first[1:], e.name, src_dir_fd=self.top, dst_dir_fd=parent, follow_symlinks=False)
            return first != path
        except FileExistsError:
            raise
        except OSError as error:
            problems.add(f"restored apart from {shown(first)}, cannot link them: {why(error)}")
            return False

    def file(self, e, fd, problems):
        if e.flags & INCOMPLETE:
            self.notes["files incomplete in the snapshot (see the errors of the backup)"] += 1
        with open(fd, "wb") as file:
            file.truncate(e.size)                                       # what is not written is a hole
            for offset, length, chunk in self.repository.leaves(e.content, problems):
                try:
                    if chunk:
                        file.seek(offset)
                        file.write(self.repository.chunk(chunk, length, self.repository.data_key))
                except Failure as failure:
                    problems.add(failure)
            file.flush()
            self.metadata(e, problems, fd)
        self.counts["bytes"] += e.size

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
    repository = Repository(options.repo, *((2, read_key_file(options.key_file)) if options.key_file else (1, passphrase)))
    if options.command == "list":
        for s in repository.snapshots():
            print(s.id, shown(s.time), shown(s.host), f"entries={s.root.entries_below} bytes={s.root.size} "
                  f"errors={shown(s.errors)}", *map(shown, s.paths))
    else:
        found = repository.snapshots("" if options.snapshot == "latest" else options.snapshot or "-")
        if not found or options.snapshot != "latest" and len(found) > 1:
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
