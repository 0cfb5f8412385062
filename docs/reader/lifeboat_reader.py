#!/usr/bin/env python3
"""An independent reader of Lifeboat repositories, written from docs/format.md alone. See README.md beside it."""
import argparse, base64, contextlib, errno, functools, hashlib, hmac, json, os, re, resource, signal, stat, struct, sys
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

class Failure(Exception):
    """Something stored is missing, damaged or refused; the reader goes on with the rest."""

def require(condition, message):
    if not condition:
        raise Failure(message)

# What is raised for damaged or hostile objects, and by the system for what it refuses: a name, a time …
BAD = (Failure, InvalidTag, nacl.exceptions.CryptoError, zstandard.ZstdError, argon2.exceptions.HashingError, OSError,
       ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)

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
        return (code := self.varint()) >> 1 ^ -(code & 1)

    def end(self):
        require(self.at == len(self.data), "bytes follow its end")

def derive(use, material):
    return blake3(material, derive_key_context=f"lifeboat 2026-11-21 v1 {use}").digest()

def open_box(seal_key, header, number, role, codec, plain_length, box):
    coded_length, object_key = len(box) - 16, blake3(header, key=seal_key).digest()
    require(coded_length == plain_length if codec == 0 else codec == 1 and 0 <= coded_length < plain_length,
            "a box's codec or length is refused")
    associated, nonce = struct.pack("<BBHII", role, codec, 0, plain_length, coded_length), struct.pack("<Q", number)
    if header[7] == 1:
        open_xchacha = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt
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
    require((magic, version, cipher) == (b"LBKY", 1, 1) and slot_kind in (1, 2) and purpose <= 2,
            "it is not a key slot of version 1")
    require(slot_repository == repository and slot_id.hex() == name, "it is of another repository or another name")
    if slot_kind != kind:
        return None
    if kind == 1:
        require(1 <= passes <= 16 and 1 <= lanes <= 16 and 8 * lanes <= memory <= MIB, "its Argon2 cost is refused")
        material = argon2.low_level.hash_secret_raw(secret, salt, passes, memory, lanes, 32, argon2.Type.ID, 0x13)
    else:
        material = blake3(salt, key=secret).digest()
    wrap_key, expected = derive("slot wrap", material + head), derive("slot commitment", material + head)
    if not hmac.compare_digest(expected, commitment):
        return None
    return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(wrapped, head, bytes(24), wrap_key)

# ---- The repository ----

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
            require(version == 1, f"this reader does not know format version {version}")
            require(not features, f"this reader does not know the required feature {features[:1]}")
            self.id = d.take(16)
            master = self.unlock(kind, secret)
            self.data_key, self.meta_key, self.seal_key = (
                derive(use, master) for use in ("data chunk id", "metadata chunk id", "seal"))
            sealed = json.loads(self.open_whole(d.data[d.at:], CONFIG))
            require((sealed["version"], sealed["features"], sealed["repository_id"]) == (1, [], self.id.hex()),
                    "its clear header was changed")
            self.cipher = CIPHERS[sealed["cipher"]]
        except BAD as failure:
            die(f"config: {why(failure)}")

    def error(self, what, failure):
        message = f"{shown(what)}: {why(failure)}"
        if message != self.said:                                        # once for all chunks of a file in a bad segment
            self.errors, self.said = self.errors + 1, message
            say(message)

    def read(self, key, at=0, count=65 * MIB):
        with open(f"{self.root}/{key}", "rb") as file:
            file.seek(at)
            return file.read(count)

    def names(self, folder, digits=64):
        names = os.listdir(f"{self.root}/{folder}") if os.path.exists(f"{self.root}/{folder}") else []
        return sorted(name for name in names if re.fullmatch(f"[0-9a-f]{{{digits}}}", name))

    def unlock(self, kind, secret):
        names, damaged = self.names("keys", 16), 0
        for name in names:
            try:
                if master := open_slot(self.read(f"keys/{name}"), name, self.id, kind, secret):
                    return master
            except BAD as failure:
                damaged += 1
                say(f"keys/{name}: {why(failure)}")
        if damaged == len(names):
            die("no key slot of the repository can be read")
        die("wrong key: it opens no key slot that can be read", 12)

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
        """What `decode` makes of those objects; one that cannot be decoded is reported and passed over."""
        for name in names:
            try:
                yield decode(f"{folder}/{name}")
            except BAD as failure:
                self.error(f"{folder}/{name}", failure)

    def snapshots(self, prefix=""):
        """The readable snapshots that are not forgotten, oldest first."""
        names = [name for name in self.names("snapshots") if name.startswith(prefix)]
        records = self.each("forgotten", self.names("forgotten"), self.forgotten_ids)
        forgotten = {snapshot for record in records for snapshot in record}
        found = self.each("snapshots", [name for name in names if name not in forgotten], self.snapshot)
        return sorted(found, key=lambda s: s.order)

    def forgotten_ids(self, key):
        return [str(snapshot["id"]) for snapshot in self.read_json(key, FORGOTTEN)["forgotten"]]

    def snapshot(self, key):
        fields = self.read_json(key, SNAPSHOT)
        root, *others = decode_node(bytes.fromhex(fields["root"]))
        require(root.name == b"" and root.type == DIR and not others, "its root is not /")
        day, fraction, offset = re.fullmatch(r"(\S{19})(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", fields["time"]).groups()
        order = (datetime.fromisoformat(day + offset).timestamp(), (fraction or "").ljust(9, "0"),
                 str(fields["writer"]), int(fields["sequence"]))
        return SimpleNamespace(id=key[-64:], time=fields["time"], host=fields["host"], paths=list(fields["paths"]),
                               root=root, order=order, errors=fields.get("errors_total", 0))

    # -- Chunks --

    def load_index(self):
        shards = {name: (d, replaced) for name, d, replaced in self.each("index", self.names("index"), self.open_shard)}
        names = shards.keys() - set().union(*(replaced for _, replaced in shards.values()))
        list(self.each("index", names, lambda key: self.load_shard(shards.pop(key[-64:])[0])))

    def open_shard(self, key):
        d = Decoder(self.read_whole(key, INDEX))
        return key[-64:], d, [d.take(32).hex() for _ in range(d.varint())]

    def load_shard(self, d):
        for _ in range(d.varint()):
            sha, salt, kind, size = d.take(32).hex(), d.take(32), d.u8(), d.varint()
            require(kind in (DATA, META), "a pack's kind is unknown")
            key, header = f"{'packs' if kind == DATA else 'meta'}/{sha[:2]}/{sha}", self.header(kind, self.cipher, salt)
            numbers, at = {2**32 - 1}, 56
            for _ in range(d.varint()):
                number, box_length, plain_length, codec = d.varint(), d.varint(), d.varint(), d.u8()
                require(number < 2**32 and number not in numbers and box_length <= plain_length + 16 <= 16 * MIB + 16,
                        "a segment's number or length is refused")
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
            require(at + 32 <= size, "a pack is shorter than its segments")
        d.end()

    def read_segment(self, index):
        key, header, at, box_length, number, codec, plain_length = self.segments[index]
        try:
            return open_box(self.seal_key, header, number, SEGMENT, codec, plain_length, self.read(key, at, box_length))
        except BAD as failure:
            raise Failure(f"{key}, segment {number}: {why(failure)}")

    def chunk(self, chunk, length, id_key):
        """A verified chunk. The length of a list is known to the index only."""
        require(chunk in self.places, "a chunk is missing: no readable index shard names it")
        place = self.places[chunk]
        offset, count = place >> 25 & 0x1ffffff, place & 0x1ffffff
        require(length in (None, count), "a chunk has another length")
        data = memoryview(self.segment(place >> 50))[offset:offset + count]
        require(blake3(data, key=id_key).digest()[:16] == chunk, "a chunk is damaged: its bytes are not those of its id")
        return data

    def leaves(self, content, path, offset=0):
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
                    yield from self.leaves(part, path, offset)
                except BAD as failure:
                    self.error(path, failure)
            offset += length

    def entries(self, directory, path):
        previous = b""
        for _, length, chunk in self.leaves(directory.content, path):
            try:
                require(chunk, "its content has a hole")
                for entry in decode_node(self.chunk(chunk, length, self.meta_key)):
                    name, previous, last = entry.name, max(entry.name, previous), previous
                    require(last < name not in (b".", b"..") and not {0, 47} & set(name),
                            f"the name or the order of the entry {shown(name)} is refused")
                    yield entry
            except BAD as failure:
                self.error(path, failure)

# ---- Restoring ----

class Restore:
    """Walks the tree by open directories, so that no path is resolved anew."""
    def __init__(self, repository, out, root):
        self.repository, self.linked, self.count, self.is_root = repository, {}, 0, os.geteuid() == 0
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))        # one for each level of directories
        sys.setrecursionlimit(max(10_000, 4 * hard))
        self.new = not os.path.exists(out)
        os.makedirs(out, exist_ok=True)
        self.top = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
        self.directory(root, b"", self.top)

    def directory(self, directory, path, fd):
        for e in self.repository.entries(directory, path or b"/"):
            below, self.count = path + b"/" + e.name, self.count + 1
            try:
                if e.type == DIR:
                    self.directory(e, below, self.enter(e.name, fd))
                else:
                    self.entry(e, below, fd)
            except BAD as failure:
                self.repository.error(below, failure)
        if path or self.new:                                            # an OUT that was there keeps its own metadata
            self.metadata(directory, path or b"/", b"/proc/self/fd/%d" % fd)
        os.close(fd)

    def enter(self, name, parent):
        with contextlib.suppress(FileExistsError):                      # one that is there serves, but no symlink does
            os.mkdir(name, 0o700, dir_fd=parent)
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)

    def entry(self, e, path, parent):
        if e.links > 1:                                                 # the first name is remembered for the others
            key = blake3(repr((e.device, e.inode, e.type, e.content, e.target, e.rdev)).encode()).digest()
            if (first := self.linked.setdefault(key, path)) != path:
                try:
                    return os.link(first[1:], e.name, src_dir_fd=self.top, dst_dir_fd=parent, follow_symlinks=False)
                except OSError as error:
                    self.repository.error(path, Failure(f"cannot link it to {shown(first)}: {why(error)}"))
        if e.type == FILE:
            fd = os.open(e.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent)
            return self.file(e, path, fd)
        if e.type == SOCKET:
            return
        if e.type == SYMLINK:
            os.symlink(e.target, e.name, dir_fd=parent)
        else:
            kind = {FIFO: stat.S_IFIFO, CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK}[e.type]
            os.mknod(e.name, kind | 0o600, os.makedev(*e.rdev), dir_fd=parent)
        self.metadata(e, path, b"/proc/self/fd/%d/%s" % (parent, e.name), follow_symlinks=False)

    def file(self, e, path, fd):
        with open(fd, "wb") as file:
            file.truncate(e.size)                                       # what is not written is a hole
            for offset, length, chunk in self.repository.leaves(e.content, path):
                try:
                    if chunk:
                        file.seek(offset)
                        file.write(self.repository.chunk(chunk, length, self.repository.data_key))
                except BAD as failure:
                    self.repository.error(path, failure)
            file.flush()
            self.metadata(e, path, b"/proc/self/fd/%d" % fd)
        if e.flags & INCOMPLETE:
            say(f"note: {shown(path)}: the snapshot does not hold all of it")

    def metadata(self, e, path, target, **follow):
        others = not self.is_root and e.type != DIR and (e.uid, e.gid) != (os.geteuid(), os.getegid())
        bind = functools.partial
        steps = [("owner", bind(os.chown, target, e.uid, e.gid, **follow))] if self.is_root else []
        for name, value in e.xattrs:
            if self.is_root or name.startswith((b"user.", b"system.posix_acl_")):
                steps.append((f"attribute {shown(name)}", bind(os.setxattr, target, name, value, **follow)))
        if e.type != SYMLINK:                                           # and no setuid program of another owner
            steps.append(("mode", bind(os.chmod, target, e.mode & (0o1777 if others else 0o7777))))
        steps.append(("time", bind(os.utime, target, ns=(e.mtime, e.mtime), **follow)))
        for what, step in steps:
            try:
                step()
            except BAD as failure:
                self.repository.error(path, Failure(f"cannot set its {what}: {why(failure)}"))

# ---- The program ----

def run(options):
    passphrase = os.environb.get(b"LIFEBOAT_PASSPHRASE")
    if not options.key_file and passphrase is None:
        die("no key: set LIFEBOAT_PASSPHRASE or give --key-file")
    repository = Repository(options.repo, *((2, read_key_file(options.key_file)) if options.key_file else (1, passphrase)))
    if options.command == "list":
        for s in repository.snapshots():
            print(s.id, shown(s.time), shown(s.host), f"entries={s.root.entries_below} bytes={s.root.size}",
                  f"errors={shown(s.errors)}", *map(shown, s.paths))
    else:
        found = repository.snapshots("" if options.snapshot == "latest" else options.snapshot or "-")
        if not found or options.snapshot != "latest" and len(found) > 1:
            die(f"{options.snapshot}: {len(found) or 'no'} readable snapshots are named so")
        repository.load_index()
        restore = Restore(repository, options.out, found[-1].root)
        print(f"snapshot {found[-1].id}: {restore.count} entries restored, {repository.errors} problems")
    sys.exit(1 if repository.errors else 0)

def main():
    parser = argparse.ArgumentParser(description="Lists and restores the snapshots of a Lifeboat repository.")
    parser.add_argument("--key-file", help="instead of the environment's LIFEBOAT_PASSPHRASE")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, *arguments in ("list", "repo"), ("restore", "repo", "snapshot", "out"):
        command = commands.add_parser(name)
        command.add_argument("--key-file", default=argparse.SUPPRESS)
        for argument in arguments:
            command.add_argument(argument)
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)                       # `list | head` ends quietly
    try:
        run(parser.parse_args())
    except (Exception, KeyboardInterrupt) as error:
        die(f"{type(error).__name__}: {error}")

if __name__ == "__main__":
    main()
