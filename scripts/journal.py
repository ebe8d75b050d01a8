#!/usr/bin/env python3
"""Reads Outcry's journal without Outcry: written from src/journal/SPEC.md, with the standard library only. What it and
`outcry audit` say of the same directory must agree; the tests compare them.

    scripts/journal.py verify DIR            is everything there, in its place, as it was written? Exit code 1 if not
    scripts/journal.py cat DIR [--json]      every frame that counts, as a table or a JSON object a line
    scripts/journal.py request DIR ID        the frames whose payload holds this text (a request id)
    scripts/journal.py --self-test           checks the checker

A payload is shown as hexadecimal, its first 32 bytes in the table; --full shows all of it. --node N where a directory
holds the journals of several nodes.
"""
import argparse, datetime, hashlib, json, os, re, struct, sys, tempfile, zlib

PAGE = 4096
BLOCK_MAX = 8 << 20
SEAL_BYTES = 16384
KINDS = (
    "auction delivery refusals refusal-sample account lease notice settlement config start stop clean raw-request raw-answer told"
).split()
WRITERS = {0xFFFF: "flush", 0xFFFE: "control"}


class Bad(Exception):
    """What is read is not what the format says."""


def zero(data):
    return not data.strip(b"\0")


class Header:
    """A segment's first page."""

    def __init__(self, page):
        if len(page) < PAGE:
            raise Bad("the file ends within its header")
        if zero(page[:PAGE]):
            raise Bad("empty")
        fields = struct.unpack_from("<8sIIQQQQQQ32sI", page)
        magic, self.version, self.node, self.segment, self.hlc, self.bytes, self.first_block = fields[:7]
        self.salt, self.end_before, self.digest_before, self.crc_before = fields[7:]
        if magic != b"OUTCRYJ1":
            raise Bad("no segment of a journal begins like this")
        if struct.unpack_from("<I", page, 4092)[0] != zlib.crc32(page[:4092]):
            raise Bad("the header's checksum fails")
        if self.version != 1:
            raise Bad(f"version {self.version} of the format; this reads version 1")
        if not zero(page[100:4092]) or not self.segment or not self.first_block or self.end_before % PAGE:
            raise Bad("the header contradicts itself")


class Block:
    """A good block of a segment, or Bad."""

    def __init__(self, data, at, limit, header):
        if at + 64 > limit:
            raise Bad("the segment ends here")
        if data[at : at + 4] == b"\0\0\0\0":
            raise Bad("nothing is written here")
        fields = struct.unpack_from("<4sIIIQQQQIIB3sI", data, at)
        magic, self.bytes, self.payload_bytes, self.frames, self.segment, self.number = fields[:6]
        self.first_hlc, self.last_hlc, self.before, self.crc, self.kind, pad, self.unconfirmed = fields[6:]
        if magic != b"OBLK":
            raise Bad("no block begins here")
        end = 64 + self.payload_bytes
        if self.bytes != -(-end // PAGE) * PAGE or self.bytes > BLOCK_MAX:
            raise Bad("the block's lengths cannot be")
        if at + self.bytes > limit:
            raise Bad("the block is cut off")
        crc = zlib.crc32(struct.pack("<Q", header.salt))
        crc = zlib.crc32(data[at : at + 52], crc)
        crc = zlib.crc32(bytes(4), crc)
        if zlib.crc32(data[at + 56 : at + end], crc) != self.crc:
            raise Bad("the block's checksum fails")
        if not zero(data[at + end : at + self.bytes]):
            raise Bad("the block is not filled up with zeros")
        if self.kind not in (1, 2) or not self.number or pad != b"\0\0\0":
            raise Bad("the block contradicts itself")
        if self.segment != header.segment:
            raise Bad(f"a block of segment {self.segment}")
        self.at, self.payload = at, data[at + 64 : at + end]
        if self.kind == 2:
            self.ranges = seal(self.payload)


def seal(payload):
    """The entries of a seal: epoch, writer, first and last seq, frames."""
    if len(payload) != SEAL_BYTES - 64:
        raise Bad("the seal's length cannot be")
    _blocks, _frames, _bytes, entries, _ = struct.unpack_from("<QQQII", payload)
    if entries > 509:
        raise Bad("the seal has too many entries")
    return [struct.unpack_from("<IHHQQQ", payload, 32 + 32 * i) for i in range(entries)]


class Frame:
    """One frame of a block."""

    def __init__(self, payload, at):
        if len(payload) - at < 32:
            raise Bad("a frame is cut off")
        length, crc, self.seq, self.epoch, self.writer, self.kind, self.version, self.hlc = struct.unpack_from(
            "<IIQIHBBQ", payload, at
        )
        self.size = -(-length // 8) * 8
        if length < 32 or at + self.size > len(payload):
            raise Bad("a frame's length cannot be")
        if zlib.crc32(payload[at + 8 : at + length]) != crc:
            raise Bad("a frame's checksum fails")
        if not zero(payload[at + length : at + self.size]):
            raise Bad("a frame is not filled up with zeros")
        self.length, self.payload = length, payload[at + 32 : at + length]

    def time(self):
        ms = self.hlc >> 16
        try:
            when = datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)
            return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03}Z"
        except (ValueError, OverflowError, OSError):
            return f"{ms} ms"

    def kind_name(self):
        return KINDS[self.kind - 1] if 1 <= self.kind <= len(KINDS) else f"kind-{self.kind}"


def frames(block):
    """The frames of a block; Bad if it holds something else, or not as many as it says."""
    at, n = 0, 0
    while at < len(block.payload):
        frame = Frame(block.payload, at)
        frame.at = 64 + at
        at, n = at + frame.size, n + 1
        yield frame
    if n != block.frames:
        raise Bad(f"{n} frames where the block says {block.frames}")


def digest(data):
    """What the next header says of a segment."""
    parts = (hashlib.sha256(data[at : at + 65536]).digest() for at in range(0, len(data), 65536))
    return hashlib.sha256(b"".join(parts)).digest()


class Segment:
    """The blocks of a segment, what is damaged, and how it ends."""

    def __init__(self, data, header, end=None, confirmed=0):
        self.header, self.damage, self.torn = header, [], None
        limit = min(end, len(data)) if end else len(data)
        at, expected, crc = PAGE, header.first_block, header.crc_before
        self.blocks, self.sealed = [], False
        while at < limit:
            try:
                block = Block(data, at, limit, header)
                if block.number != expected:
                    raise Bad(f"block {block.number} stands where block {expected} belongs")
            except Bad as why:
                first, known, used = self._behind(data, at, limit, expected, header)
                if end is not None or max(known, confirmed) >= expected:
                    stop = first.at if first else limit
                    self.damage.append((at, stop, str(why)))
                    if not first:
                        at = limit if end else at
                        expected = max(expected, confirmed + 1)
                        break
                    at, expected, crc = first.at, first.number, None
                    continue
                self.torn = max(0, used - at) or None
                break
            if crc is not None and block.before != crc:
                self.damage.append((at, at, "the block before it is not the one that it follows"))
            self.blocks.append(block)
            at, expected, crc = at + block.bytes, expected + 1, block.crc
            if block.kind == 2:
                self.sealed = True
                break
        self.end, self.next_block = at, expected

    @staticmethod
    def _behind(data, at, limit, expected, header):
        """The first good block from `at` on, the last block that any of them knows to be confirmed, the end of what is
        not zero."""
        first, known, used = None, 0, at
        while at < limit:
            step = PAGE
            if not zero(data[at : at + PAGE]):
                used = min(at + PAGE, limit)
                try:
                    block = Block(data, at, limit, header)
                    if block.number >= expected:
                        first, step, used = first or block, block.bytes, at + block.bytes
                        known = max(known, block.number - 1 - block.unconfirmed)
                except Bad:
                    pass
            at += step
        return first, known, used


class Checkpoint:
    def __init__(self, data):
        if len(data) < 64 or data[:8] != b"OUTCRYC1":
            raise Bad("no checkpoint begins like this")
        fields = struct.unpack_from("<IIQQQQQII", data, 8)
        version, self.node, _hlc, self.first_segment, self.segment, self.block, self.end, entries, crc = fields
        if zlib.crc32(data[64:], zlib.crc32(bytes(4), zlib.crc32(data[:60]))) != crc or len(data) != 64 + 16 * entries:
            raise Bad("the checkpoint's checksum fails")
        if version != 1:
            raise Bad(f"version {version} of the format; this reads version 1")


class Directory:
    """The segments of one node, in order, each read when it is asked for."""

    def __init__(self, path, node=None):
        self.path = path
        names = [re.fullmatch(r"journal-([0-9a-f]{8})-(\d{10,})\.log", n) for n in os.listdir(path)]
        names = [m for m in names if m]
        nodes = sorted({int(m[1], 16) for m in names})
        if node is None and len(nodes) > 1:
            raise Bad("several nodes: choose one with --node: " + ", ".join(f"{n:08x}" for n in nodes))
        self.node = node if node is not None else nodes[0] if nodes else 0
        self.segments = sorted((int(m[2]), os.path.join(path, m[0])) for m in names if int(m[1], 16) == self.node)
        self.headers, self.notes, self.wrong = {}, [], []
        for number, name in self.segments:
            with open(name, "rb") as f:
                try:
                    self.headers[number] = Header(f.read(PAGE))
                except Bad as why:
                    self.headers[number] = why
        self.checkpoint = None
        try:
            with open(os.path.join(path, f"journal-{self.node:08x}.checkpoint"), "rb") as f:
                self.checkpoint = Checkpoint(f.read())
        except FileNotFoundError:
            pass
        except Bad as why:
            self.wrong.append(f"checkpoint: {why}")

    @staticmethod
    def blank(name):
        """Is nothing behind the first page?"""
        with open(name, "rb") as f:
            f.seek(PAGE)
            return all(zero(piece) for piece in iter(lambda: f.read(1 << 20), b""))

    def read(self):
        """Each segment that can be read; fills `wrong` and `notes`."""
        c = self.checkpoint
        expected, next_block, last_block = c.first_segment if c else 0, None, 0
        for i, (number, name) in enumerate(self.segments):
            header = self.headers[number]
            after = self.headers.get(number + 1)
            after = after if isinstance(after, Header) and after.segment == number + 1 else None
            if expected and number > expected:
                self.wrong.append(f"segments {expected} to {number - 1} are missing")
                next_block = None
            expected = number + 1
            durable = c.block if c and c.segment == number else 0
            if isinstance(header, Bad):
                if str(header) == "empty" and not after and not durable:
                    self.notes.append(f"segment {number} was made in advance and not begun")
                elif not after and not durable and "version" not in str(header) and self.blank(name):
                    self.notes.append(f"segment {number}: its header was being written; nothing is in it")
                else:
                    self.wrong.append(f"segment {number}, offset 0: {header}")
                    next_block = None
                continue
            if (header.node, header.segment) != (self.node, number):
                self.wrong.append(f"the file of segment {number} holds segment {header.segment} of node {header.node:08x}")
                next_block = None
                continue
            if next_block not in (None, header.first_block):
                self.wrong.append(f"segment {number} begins with block {header.first_block}; block {next_block} would follow")
            with open(name, "rb") as f:
                data = f.read()
            segment = Segment(data, header, after.end_before if after else None, durable)
            for at, stop, why in segment.damage:
                self.wrong.append(f"segment {number}, offset {at} to {stop}: damaged: {why}")
            if segment.torn:
                self.notes.append(f"segment {number}, offset {segment.end}: {segment.torn} bytes were being written")
            next_block, last_block = segment.next_block, segment.next_block - 1
            if after:
                whole = len(data) >= after.end_before
                if not whole or digest(data[: after.end_before]) != after.digest_before:
                    self.wrong.append(f"segment {number} was altered: its digest is not the one that segment {number + 1} holds")
            yield number, segment
        if c and c.block:
            if c.segment >= max(expected, 1):
                self.wrong.append(f"segments {max(expected, 1)} to {c.segment} are missing")
            elif last_block < c.block:
                self.wrong.append(f"the journal ends with block {last_block}; block {c.block} was durable")

    def frames(self):
        """Every frame: segment, block, frame. Fills `wrong` with gaps and repetitions too."""
        highest, midway = {}, None
        for number, segment in self.read():
            midway = number > 1 if midway is None else midway
            for block in segment.blocks:
                if block.kind == 2:
                    continue
                try:
                    for frame in frames(block):
                        key = (frame.epoch, frame.writer)
                        last = highest.get(key, frame.seq - 1 if midway else 0)
                        who = f"segment {number}: writer {frame.writer} of epoch {frame.epoch}"
                        if frame.seq <= last:
                            self.wrong.append(f"{who}: frame {frame.seq} is there twice")
                        elif frame.seq > last + 1:
                            self.wrong.append(f"{who}: frames {last + 1} to {frame.seq - 1} are missing")
                        highest[key] = max(last, frame.seq)
                        yield number, block, frame
                except Bad as why:
                    self.wrong.append(f"segment {number}, offset {block.at}: {why}")


def show(found, as_json, full):
    head = f"{'segment':>7} {'block':>8} {'offset':>9} {'epoch':>5} {'writer':>7} {'seq':>9} {'kind':<14} v {'time':<24} {'bytes':>6} payload"
    if not as_json:
        print(head)
    for number, block, frame in found:
        payload = frame.payload.hex()
        if as_json:
            row = {"segment": number, "block": block.number, "offset": block.at + frame.at, "epoch": frame.epoch}
            row |= {"writer": frame.writer, "seq": frame.seq, "kind": frame.kind_name(), "version": frame.version}
            row |= {"hlc": frame.hlc, "time": frame.time(), "bytes": frame.length, "payload": payload}
            print(json.dumps(row, separators=(",", ":")))
        else:
            writer = WRITERS.get(frame.writer, frame.writer)
            cut = payload if full or len(payload) <= 64 else payload[:64] + "..."
            print(
                f"{number:7} {block.number:8} {block.at + frame.at:9} {frame.epoch:5} {writer:>7} {frame.seq:9}"
                f" {frame.kind_name():<14} {frame.version} {frame.time():<24} {frame.length:6} {cut}"
            )


def summary(directory, n):
    for note in directory.notes:
        print(f"note: {note}", file=sys.stderr)
    for wrong in directory.wrong:
        print(f"WRONG: {wrong}", file=sys.stderr)
    print(f"{len(directory.segments)} files, {n} frames, {len(directory.wrong)} findings", file=sys.stderr)
    return bool(directory.wrong)


def counted(found, counter):
    for each in found:
        counter[0] += 1
        yield each


def build(salt=9, frames_of=((1, b"one"), (2, b"two"), (3, b"three")), first=1):
    """A segment of a block each, for self-tests: sequence number, payload and, where it is no auction, kind of each frame."""
    page = bytearray(PAGE)
    struct.pack_into("<8sIIQQQQQQ32sI", page, 0, b"OUTCRYJ1", 1, 0xAB, 1, 5 << 16, 1 << 20, first, salt, 0, bytes(32), 0)
    struct.pack_into("<I", page, 4092, zlib.crc32(page[:4092]))
    out, before = bytes(page), 0
    for i, (seq, payload, *kind) in enumerate(frames_of):
        body = struct.pack("<QIHBBQ", seq, 1, 0, *(kind or (1,)), 1, 7 << 16) + payload
        frame = struct.pack("<II", 8 + len(body), zlib.crc32(body)) + body
        frame += bytes(-len(frame) % 8)
        # Each was made when all before it but one were confirmed.
        head = lambda crc: struct.pack(
            "<4sIIIQQQQIIB3sI", b"OBLK", PAGE, len(frame), 1, 1, first + i, 7 << 16, 7 << 16, before, crc, 1, bytes(3), min(i, 1)
        )
        crc = zlib.crc32(head(0) + frame, zlib.crc32(struct.pack("<Q", salt)))
        out, before = out + (head(crc) + frame).ljust(PAGE, b"\0"), crc
    return out


def self_test():
    def check(change, wrong, notes=0, seqs=None):
        with tempfile.TemporaryDirectory() as path:
            data = bytearray(build() + bytes(PAGE))
            change(data)
            with open(os.path.join(path, "journal-000000ab-0000000001.log"), "wb") as f:
                f.write(data)
            directory = Directory(path)
            got = [f.seq for _, _, f in directory.frames()]
            assert (len(directory.wrong), len(directory.notes)) == (wrong, notes), (directory.wrong, directory.notes)
            assert seqs is None or got == seqs, got

    def set_at(at, value):
        return lambda data: data.__setitem__(slice(at, at + len(value)), value)

    check(lambda data: None, 0, seqs=[1, 2, 3])
    # The last block torn; the last but one, which nobody knew to be confirmed; the first, which the third one knows of.
    check(set_at(3 * PAGE + 70, b"x"), 0, notes=1, seqs=[1, 2])
    check(set_at(2 * PAGE + 70, b"x"), 0, notes=1, seqs=[1])
    check(set_at(PAGE + 70, b"x"), 2, seqs=[2, 3])
    check(set_at(PAGE + 200, b"x"), 2, seqs=[2, 3])
    check(set_at(100, b"x"), 1, seqs=[])
    print("journal: self-test ok")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("command", nargs="?", choices=["verify", "cat", "request"])
    parser.add_argument("dir", nargs="?")
    parser.add_argument("id", nargs="?")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    parser.add_argument("--full", action="store_true", help="whole payloads in the table")
    parser.add_argument("--node", type=lambda text: int(text, 16), help="in hexadecimal")
    args = parser.parse_intermixed_args()
    if args.self_test:
        return self_test()
    if not args.command or not args.dir or (args.command == "request") != bool(args.id):
        parser.error("what is to be done? COMMAND DIR, and ID for request")
    try:
        directory = Directory(args.dir, args.node)
    except (OSError, Bad) as why:
        sys.exit(f"journal: {args.dir}: {why}")
    n = [0]
    found = counted(directory.frames(), n)
    if args.command == "request":
        wanted = args.id.encode()
        found = (each for each in found if wanted in each[2].payload)
    try:
        if args.command == "verify":
            for _ in found:
                pass
        else:
            show(found, args.json, args.full)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    sys.exit(summary(directory, n[0]))


if __name__ == "__main__":
    main()
