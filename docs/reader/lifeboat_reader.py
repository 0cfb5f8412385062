#!/usr/bin/env python3
"""An independent reader of Lifeboat repositories, written from docs/format.md alone. See README.md beside it."""
import argparse, base64, contextlib, errno, functools, hashlib, hmac, json, os, re, resource, signal, stat, struct, sys
from datetime import datetime
from types import SimpleNamespace
import argon2.low_level, nacl.bindings, nacl.exceptions, zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MIB = 1 << 20
DATA, META, INDEX, SNAPSHOT, FORGOTTEN, CONFIG = 1, 2, 3, 4, 5, 7       # kinds of objects
SEGMENT, WHOLE = 0, 2                                                   # roles of boxes
FILE, DIR, SYMLINK, FIFO, SOCKET, CHAR, BLOCK = range(7)                # types of entries
XATTRS, LINKS, EXTENSIONS, INCOMPLETE = 1, 2, 4, 8                      # flags of entries
open_xchacha = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt
CIPHERS = {"xchacha20-poly1305": 1, "aes-256-gcm": 2}

class Failure(Exception):
    """Something stored is missing, damaged or refused; the reader goes on with the rest."""

def require(condition, message):
    if not condition:
        raise Failure(message)

def why(error):
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        die(f"cannot go on restoring: {error.strerror}")
    if isinstance(error, (InvalidTag, nacl.exceptions.CryptoError)):
        return "it is not authentic (damaged or forged)"
    return getattr(error, "strerror", None) or (error if isinstance(error, Failure) else f"it is refused: {error!r}")

def shown(text):
    """Bytes as path text; control characters are escaped too, so that nothing stored plays tricks on a terminal."""
    text = text.decode("utf-8", "surrogateescape").replace("\\", "\\\\") if isinstance(text, bytes) else str(text)
    return "".join(c if c.isprintable() else f"\\x{ord(c) & 0xff:02x}" for c in text)

def say(message):
    print(f"lifeboat_reader: {shown(message)}", file=sys.stderr)

def die(message, code=1):
    say(message)
    sys.exit(code)

class Decoder:
    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def take(self, count):
        require(count <= len(self.data) - self.at, "it ends too early")
        self.at += count
        return self.data[self.at - count:self.at]

    def varint(self, limit=1 << 64):
        value = shift = 0
        while (byte := self.u8()) >= 0x80 and shift < 63:
            value, shift = value | (byte & 0x7f) << shift, shift + 7
        value |= byte << shift
        require((byte or not shift) and value < limit, "a varint is refused")
        return value

    u8 = lambda self: self.take(1)[0]
    u32 = lambda self: self.varint(1 << 32)
    svarint = lambda self: (code := self.varint()) >> 1 ^ -(code & 1)
    bytes = lambda self: self.take(self.varint())
    end = lambda self: require(self.at == len(self.data), "bytes follow its end")

def derive(use, material):
    return blake3(material, derive_key_context=f"lifeboat 2026-11-21 v1 {use}").digest()

def check_box(codec, plain_length, box_length):
    require(box_length == plain_length + 16 if codec == 0 else codec == 1 and 16 < box_length < plain_length + 16,
            "a box's codec or length is refused")

def open_box(seal_key, header, number, role, codec, plain_length, box):
    check_box(codec, plain_length, len(box))
    coded_length, object_key = len(box) - 16, blake3(header, key=seal_key).digest()
    associated, nonce = struct.pack("<BBHII", role, codec, 0, plain_length, coded_length), struct.pack("<Q", number)
    if header[7] == 1:
        data = open_xchacha(box, associated, nonce.ljust(24, b"\0"), object_key)
    else:
        data = AESGCM(object_key).decrypt(nonce.ljust(12, b"\0"), box, associated)
    if codec == 1:
        require(zstandard.frame_content_size(data) in (-1, plain_length), "its zstd frame is not as declared")
        data = zstandard.ZstdDecompressor().decompress(data, plain_length, allow_extra_data=False)
    require(len(data) == plain_length, "its plain length is wrong")
    return data

def decode_content(d):
    content = SimpleNamespace(level=d.u8(), length=0, entries=[])
    require(content.level <= 8, "a content has too many levels")
    for _ in range(d.varint()):
        code = d.varint()
        require(code > 1 and not (content.level and code & 1), "a content has an empty entry or a misplaced hole")
        content.length += code >> 1
        content.entries.append((code >> 1, None if code & 1 else d.take(16)))
    require(content.length < 1 << 63, "a content is too long")
    return content

def decode_node(data):
    """Yields a node's entries one by one, so that those before a damaged one are had."""
    d = Decoder(data)
    require(d.u8() == 1, "a node's version is unknown")
    d.varint()                                                          # device
    for _ in "users", "groups":
        owners = [(d.u32(), d.bytes())[0] for _ in range(d.varint())]
        require(all(a < b for a, b in zip(owners, owners[1:])), "a node's owners are out of order")
    for _ in range(d.varint()):
        e = SimpleNamespace(name=d.bytes(), type=d.u8(), flags=d.varint(), mode=d.varint(), uid=d.u32(),
                            gid=d.u32(), links=1, xattrs=[], content=None, size=0, target=b"", rdev=(0, 0))
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
            e.rdev = d.u32(), d.u32()
        yield e
    d.end()

def read_key_file(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        text = "".join(line for line in file.read(1 << 16).splitlines() if not line.startswith("#"))
    if match := re.fullmatch("LB1([0-9A-TV-Z]{56})", re.sub(r"[\s-]", "", text).upper()):
        digits = str.maketrans("0123456789ABCDEFGHJKMNPQRSTVWXYZOIL", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABB")
        data = base64.b32decode(match[1].translate(digits))
        if blake3(data[:32]).digest()[:3] == data[32:]:
            return data[:32]
    die(f"{path}: this is no key file, or it is mistyped", 12)

def open_slot(slot, name, repository, kind, secret):
    """The master key; None if the slot's secret is another."""
    require(len(slot) >= 181 and len(slot) == 181 + slot[84] and slot[84] <= 128 and
            blake3(slot[:-16]).digest()[:16] == slot[-16:], "it is damaged: its length or checksum is wrong")
    head, commitment, wrapped = slot[:-96], slot[-96:-64], slot[-64:-16]
    magic, version, slot_kind, cipher, purpose, slot_repository, slot_id, _, memory, passes, lanes, salt = \
        struct.unpack("<4sBBBB16s8sQIII32s", head[:84])
    require((magic, version, cipher) == (b"LBKY", 1, 1) and (slot_kind, purpose) in ((1, 0), (2, 1), (2, 2)) and
            slot_repository == repository and slot_id.hex() == name, "it is not such a slot as its place demands")
    require(memory == passes == lanes == 0 if slot_kind == 2 else
            1 <= passes <= 16 and 1 <= lanes <= 16 and 8 * lanes <= memory <= MIB, "its Argon2 cost is refused")
    if slot_kind != kind:
        return None
    material = blake3(salt, key=secret).digest() if kind == 2 else \
        argon2.low_level.hash_secret_raw(secret, salt, passes, memory, lanes, 32, argon2.low_level.Type.ID, 0x13)
    wrap_key, expected = derive("slot wrap", material + head), derive("slot commitment", material + head)
    return open_xchacha(wrapped, head, bytes(24), wrap_key) if hmac.compare_digest(expected, commitment) else None

class Repository:
    def __init__(self, root, kind, secret):
        self.root, self.errors, self.said, self.segments, self.places = root, 0, "", [], {}
        self.segment = functools.lru_cache(16)(self.read_segment)       # 2 MiB each, or what `segment_bytes` says
        if not os.path.exists(f"{root}/config"):
            die(f"{root}: there is no Lifeboat repository", 10)
        try:
            d = Decoder(self.read("config"))
            require(d.take(8) == b"LIFEBOAT", "it does not begin as a Lifeboat repository does")
            version, features = int.from_bytes(d.take(2), "little"), [shown(d.take(d.u8())) for _ in range(d.u8())]
            require((version, features) == (1, []), f"this reader does not know version {version}, features {features}")
            self.id = d.take(16)
            master = self.unlock(kind, secret)
            self.data_key, self.meta_key, self.seal_key = (
                derive(use, master) for use in ("data chunk id", "metadata chunk id", "seal"))
            sealed = json.loads(self.open_whole(d.data[d.at:], CONFIG))
            require((sealed["version"], sealed["features"], sealed["repository_id"]) == (1, [], self.id.hex()),
                    "its clear header was changed")
            self.cipher = CIPHERS[sealed["cipher"]]
        except Exception as failure:
            die(f"config: {why(failure)}")

    @contextlib.contextmanager                                          # says what fails within it, to go on behind it
    def reporting(self, what, doing=""):
        try:
            yield
        except Exception as failure:
            message = f"{shown(what)}: {doing}{why(failure)}"
            if message != self.said:                                    # once for all chunks of a file in a bad segment
                self.errors, self.said = self.errors + 1, message
                say(message)

    def read(self, key, at=0, count=65 * MIB):
        with open(f"{self.root}/{key}", "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            file.seek(at)
            return file.read(count)

    def names(self, folder, digits=64):
        names = os.listdir(f"{self.root}/{folder}") if os.path.exists(f"{self.root}/{folder}") else []
        return sorted(name for name in names if re.fullmatch(f"[0-9a-f]{{{digits}}}", name))

    def unlock(self, kind, secret):
        for name in (names := self.names("keys", 16)):
            with self.reporting(f"keys/{name}"):
                if master := open_slot(self.read(f"keys/{name}"), name, self.id, kind, secret):
                    self.errors = 0                                     # another slot's damage does no harm now
                    return master
        die(*("no key slot of the repository can be read", 1) if self.errors == len(names) else
            ("wrong key: it opens no key slot that can be read", 12))

    def header(self, kind, cipher, salt):
        return struct.pack("<4sBBBB16s32s", b"LBOX", 1, kind, 0, cipher, self.id, salt)

    def open_whole(self, data, kind):
        require(len(data) >= 80, "it ends too early")
        header, (codec, zeros, plain_length) = data[:56], struct.unpack("<B3sI", data[56:64])
        require(header[7] in CIPHERS.values() and header == self.header(kind, header[7], header[24:]),
                "its header is damaged or of another repository")
        require(zeros == bytes(3) and plain_length <= 64 * MIB, "its length is refused")
        return open_box(self.seal_key, header, 0, WHOLE, codec, plain_length, data[64:])

    def read_whole(self, key, kind):
        data = self.read(key)
        require(hashlib.sha256(data).hexdigest() == key[-64:], "it is damaged: its SHA-256 is not its name")
        return self.open_whole(data, kind)

    def read_json(self, key, kind):
        fields = json.loads(self.read_whole(key, kind))
        require(fields["version"] == 1, "its version is unknown")
        return fields

    def each(self, folder, names, decode):
        for name in names:
            with self.reporting(f"{folder}/{name}"):
                yield decode(f"{folder}/{name}")

    def snapshots(self, prefix=""):
        """The readable snapshots that are not forgotten, oldest first."""
        names = {name for name in self.names("snapshots") if name.startswith(prefix)}
        forgotten = set().union(*self.each("forgotten", self.names("forgotten"), lambda key: {
            snapshot["id"] for snapshot in self.read_json(key, FORGOTTEN)["forgotten"]}))
        return sorted(self.each("snapshots", sorted(names - forgotten), self.snapshot), key=lambda s: s.order)

    def snapshot(self, key):
        fields = self.read_json(key, SNAPSHOT)
        root, *others = decode_node(bytes.fromhex(fields["root"]))
        require(root.name == b"" and root.type == DIR and not others, "its root is not /")
        time = datetime.fromisoformat(fields["time"])                   # without its nanoseconds
        order = time.timestamp() // 1, re.findall(r"\.(\d+)", fields["time"]), str(fields["writer"]), fields["sequence"]
        return SimpleNamespace(id=key[-64:], time=fields["time"], host=fields["host"], paths=list(fields["paths"]),
                               root=root, order=order, errors=fields.get("errors_total", 0))

    def load_index(self):
        shards = dict(self.each("index", self.names("index"), lambda key: (
            key[6:], (d := Decoder(self.read_whole(key, INDEX)), {d.take(32).hex() for _ in range(d.varint())}))))
        names = shards.keys() - set().union(*(replaced for _, replaced in shards.values()))
        list(self.each("index", sorted(names), lambda key: self.load_shard(shards.pop(key[6:])[0])))

    def load_shard(self, d):
        for _ in range(d.varint()):
            sha, salt, kind, size = d.take(32).hex(), d.take(32), d.u8(), d.varint()
            folder = {DATA: "packs", META: "meta"}[kind]
            key, header = f"{folder}/{sha[:2]}/{sha}", self.header(kind, self.cipher, salt)
            numbers, at = {2**32 - 1}, 56
            for _ in range(d.varint()):
                number, box_length, plain_length, codec = d.u32(), d.varint(), d.varint(), d.u8()
                require(number not in numbers and plain_length <= 16 * MIB, "a segment's number or length is refused")
                check_box(codec, plain_length, box_length)
                place = start = len(self.segments) << 50                # a place: segment, offset in it, length
                self.segments.append((key, header, at, box_length, number, codec, plain_length))
                for _ in range(d.varint()):
                    chunk, length = d.take(16), d.varint()
                    require(0 < length <= 8 * MIB, "a chunk's length is refused")
                    self.places.setdefault(chunk, place | length)
                    place += length << 25
                require(0 < place - start == plain_length << 25, "a segment's chunks do not sum to its length")
                numbers.add(number)
                at += box_length
            require(at + 33 <= size, "a pack is shorter than its segments")
        d.end()

    def read_segment(self, index):
        key, header, at, box_length, number, codec, plain_length = self.segments[index]
        try:
            return open_box(self.seal_key, header, number, SEGMENT, codec, plain_length, self.read(key, at, box_length))
        except Exception as failure:
            raise Failure(f"{key}, segment {number}: {why(failure)}")

    def chunk(self, chunk, length, id_key):
        """A verified chunk. The length of a list is known to the index only."""
        require(chunk in self.places, "a chunk is missing: no readable index shard names it")
        place = self.places[chunk]
        offset, count = place >> 25 & 0x1ffffff, place & 0x1ffffff
        require(length in (None, count), "a chunk has another length")
        data = memoryview(self.segment(place >> 50))[offset:offset + count]
        require(blake3(data, key=id_key).digest()[:16] == chunk, "a chunk is damaged: it has another id")
        return data

    def leaves(self, content, path, offset=0):
        """Yields (offset, length, id or None) of a content's chunks and holes; passes over what a bad list covers."""
        for length, chunk in content.entries:
            if content.level == 0:
                yield offset, length, chunk
            else:
                with self.reporting(path):
                    d = Decoder(self.chunk(chunk, None, self.meta_key))
                    part = decode_content(d)
                    d.end()
                    require((part.level, part.length) == (content.level - 1, length), "a list is not as declared")
                    yield from self.leaves(part, path, offset)
            offset += length

    def entries(self, directory, path):
        previous = b""
        for _, length, chunk in self.leaves(directory.content, path):
            with self.reporting(path):
                require(chunk, "its content has a hole")
                for entry in decode_node(self.chunk(chunk, length, self.meta_key)):
                    name, previous, last = entry.name, max(entry.name, previous), previous
                    require(last < name not in (b".", b"..") and not {0, 47} & set(name),
                            f"the name or the order of the entry {shown(name)} is refused")
                    yield entry

class Restore:
    """Walks the tree by open directories, so that no path is resolved anew."""
    def __init__(self, repository, out, root):
        self.repository, self.reporting = repository, repository.reporting
        self.linked, self.is_root = {}, os.geteuid() == 0
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))        # one for each level of directories
        sys.setrecursionlimit(4 * hard + 10_000)
        self.new = not os.path.exists(out)
        os.makedirs(out, exist_ok=True)
        self.top = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
        self.directory(root, b"", self.top)

    def directory(self, directory, path, fd):
        for e in self.repository.entries(directory, path or b"/"):
            below = path + b"/" + e.name
            with self.reporting(below):
                if e.type == DIR:
                    with contextlib.suppress(FileExistsError):          # one that is there serves, but no symlink does
                        os.mkdir(e.name, 0o700, dir_fd=fd)
                    self.directory(e, below, os.open(e.name, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd))
                elif e.type != SOCKET:
                    self.entry(e, below, fd)
        if path or self.new:                                            # an OUT that was there keeps its own metadata
            self.metadata(directory, path or b"/", b"/proc/self/fd/%d" % fd)
        os.close(fd)

    def entry(self, e, path, parent):
        if e.links > 1:                                                 # the first name is remembered for the others
            key = blake3(repr((e.device, e.inode, e.type, e.content, e.target, e.rdev)).encode()).digest()
            if (first := self.linked.setdefault(key, path)) != path:
                with self.reporting(path, f"cannot link it to {shown(first)}: "):
                    return os.link(first[1:], e.name, src_dir_fd=self.top, dst_dir_fd=parent, follow_symlinks=False)
        if e.type == FILE:
            return self.file(e, path, parent)
        if e.type == SYMLINK:
            os.symlink(e.target, e.name, dir_fd=parent)
        else:
            kind = {FIFO: stat.S_IFIFO, CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK}[e.type]
            os.mknod(e.name, kind | 0o600, os.makedev(*e.rdev), dir_fd=parent)
        self.metadata(e, path, b"/proc/self/fd/%d/%s" % (parent, e.name), follow_symlinks=False)

    def file(self, e, path, parent):
        with open(e.name, "xb", opener=functools.partial(os.open, mode=0o600, dir_fd=parent)) as file:
            file.truncate(e.size)                                       # what is not written is a hole
            for offset, length, chunk in self.repository.leaves(e.content, path):
                with self.reporting(path):
                    if chunk:
                        file.seek(offset)
                        file.write(self.repository.chunk(chunk, length, self.repository.data_key))
            file.flush()
            self.metadata(e, path, b"/proc/self/fd/%d" % file.fileno())
        if e.flags & INCOMPLETE:
            say(f"note: {shown(path)}: the snapshot does not hold all of it")

    def metadata(self, e, path, target, **follow):
        if self.is_root:
            with self.reporting(path, "cannot set its owner: "):
                os.chown(target, e.uid, e.gid, **follow)
        elif e.type != DIR and (e.uid, e.gid) != (os.geteuid(), os.getegid()):
            e.mode &= 0o1777                                            # no setuid program of another owner
        for name, value in e.xattrs:
            if self.is_root or name.startswith((b"user.", b"system.posix_acl_")):
                with self.reporting(path, f"cannot set its attribute {shown(name)}: "):
                    os.setxattr(target, name, value, **follow)
        with self.reporting(path, "cannot set its mode and time: "):
            if e.type != SYMLINK:
                os.chmod(target, e.mode)
            os.utime(target, ns=(e.mtime, e.mtime), **follow)

def main():
    parser = argparse.ArgumentParser(usage="%(prog)s list REPO | restore REPO SNAPSHOT OUT [--key-file FILE]",
                                     description="Lists and restores the snapshots of a Lifeboat repository.")
    parser.add_argument("words", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--key-file", help="instead of the environment's LIFEBOAT_PASSPHRASE")
    options = parser.parse_args()
    command, repo, wanted, out = (options.words + [None] * 3)[:4]
    if (command, len(options.words)) not in (("list", 2), ("restore", 4)):
        parser.error("wrong command")
    key = (2, read_key_file(options.key_file)) if options.key_file else (1, os.environb.get(b"LIFEBOAT_PASSPHRASE"))
    if key[1] is None:
        die("no key: set LIFEBOAT_PASSPHRASE or give --key-file")
    repository = Repository(repo, *key)
    found = repository.snapshots("" if wanted in (None, "latest") else wanted or "-")
    if command == "list":
        for s in found:
            print(s.id, shown(s.time), shown(s.host), f"entries={s.root.entries_below} bytes={s.root.size}",
                  f"errors={shown(s.errors)}", *map(shown, s.paths))
    else:
        if not found or wanted != "latest" and len(found) > 1:
            die(f"{wanted}: {len(found) or 'no'} readable snapshots are named so")
        repository.load_index()
        Restore(repository, out, found[-1].root)
        print(f"restored snapshot {found[-1].id}: {repository.errors} problems")
    sys.exit(1 if repository.errors else 0)

if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)                       # `list | head` ends quietly
    try:
        main()
    except (Exception, KeyboardInterrupt) as error:
        die(f"{type(error).__name__}: {error}")
