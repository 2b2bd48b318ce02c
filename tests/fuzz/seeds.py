#!/usr/bin/env python3
"""Writes the stored inputs that follow the forms on the wire: corpus/any, corpus/segment, corpus/start, corpus/frame,
corpus/handshake.

Run it when a form has changed. What fuzzers have found lies beside them under other names, and is left alone.
"""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
U64 = 2**64 - 1
(BOOL, INT, UINT, DOUBLE, STRING, BYTES, STRUCT, LIST, FILE, FD, HANDLE, SEGMENT, VALUE, ARRAY, LOCK, RLOCK, SEMAPHORE,
 EVENT, CONDITION, BARRIER, RWLOCK, QUEUE, CONNECTION) = range(1, 24)


def write(target, name, data):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)


def pad(data):
    return data + bytes(-len(data) % 8)


# ---- packs: src/any.h ----

def item(kind, number=0, extra=0, offset=0, data=b""):
    return struct.pack("<IIQQ", kind, extra, number & U64, offset) + pad(data)


def string(text):
    return item(STRING, len(text) + 1, data=text + b"\0")


def sized(kind, data):
    return item(kind, len(data), data=data)


def pack(*items):
    return struct.pack("<Q", len(items)) + b"".join(items)


def listed(*items):
    return item(LIST) + pack(*items)


def double(number):
    return item(DOUBLE, struct.unpack("<Q", struct.pack("<d", number))[0])


# ---- what shared memory begins with: src/segment.h, include/kin/object.h ----

def header(kind, size, item_kind=0, item_size=0, count=0, id_=0x1234567, magic=0x6B696E68, version=1):
    return struct.pack("<IIIIQQQQQQ", magic, version, kind, item_kind, size, id_, item_size, count, 0, 0)


def kin_object(kind, size, word=0, rest=b"", offset=0):
    head = struct.pack("<QQIi", word, 0x7654321, 0x6B696E00 + kind, 0) + b"seed".ljust(40, b"\0")
    return (head + rest).ljust(size, b"\0")


SIZES = {LOCK: 64, RLOCK: 64, EVENT: 64, CONDITION: 64, SEMAPHORE: 512, RWLOCK: 512, BARRIER: 4096}
NONE, CHANNEL, MEMORY, LIVE = 0, 1, 2, 3  # fuzz_handle


def live(kind):
    return LIVE + kind - SEGMENT


# ---- corpus/any ----

def any_input(name, values, kinds=(), image=b"", fault=0):
    write("any", name, bytes([fault, len(kinds)]) + bytes(kinds) + struct.pack("<H", len(image)) + image + values)


numbers = pack(item(BOOL, 1), item(INT, -1), item(INT, 300), item(UINT, U64), item(INT, -2**63), double(2.5))
any_input("nothing", pack())
any_input("numbers", numbers)
any_input("text-and-bytes", pack(string(b""), string(b"text"), sized(BYTES, b"a\0b"), sized(BYTES, b""), sized(STRUCT, b"8 bytes!"), sized(STRUCT, b"x")))
any_input("lists", pack(listed(), listed(item(INT, 1), listed(string(b"inner"), listed())), item(INT, 3)))
nested = item(INT, 7)
for _ in range(16):
    nested = listed(nested)
any_input("lists-sixteen-deep", pack(nested))
any_input("lists-too-deep", pack(listed(nested)))
any_input("count-too-large", struct.pack("<Q", U64) + numbers[8:])
any_input("string-without-end", pack(item(STRING, 4, data=b"text")))
any_input("string-of-no-bytes", pack(item(STRING, 0)))
any_input("bytes-too-many", pack(item(BYTES, U64 - 3)))
any_input("handle-missing", pack(item(FD, extra=1)), [CHANNEL])
any_input("handle-lost", pack(item(FD), item(FILE), item(HANDLE), item(VALUE)), [NONE])
any_input("handles", pack(item(FD, extra=0), item(HANDLE, extra=1), item(FILE, extra=2, offset=1)), [CHANNEL, CHANNEL, MEMORY], b"a file")
any_input("handle-shared-by-two", pack(item(HANDLE), item(HANDLE), item(FD), item(VALUE)), [live(VALUE)])
any_input("handles-and-a-failure", pack(item(FD), item(HANDLE, extra=1), item(VALUE, extra=2)), [CHANNEL, CHANNEL, live(VALUE)], fault=2)
for file_mode in range(8):
    any_input("file-mode-%d" % file_mode, pack(item(FILE, offset=file_mode)), [MEMORY], b"a file")
for kind, name in ((SEGMENT, "segment"), (VALUE, "value"), (ARRAY, "array")):
    any_input("object-" + name, pack(item(kind), item(kind)), [live(kind)])
for kind, name in ((LOCK, "lock"), (RLOCK, "rlock"), (SEMAPHORE, "semaphore"), (EVENT, "event"), (CONDITION, "condition"),
                   (BARRIER, "barrier"), (RWLOCK, "rwlock")):
    any_input("object-" + name, pack(item(kind, offset=64)), [live(kind)])
any_input("object-lock-in-a-value", pack(item(LOCK, offset=128)), [live(VALUE)])
any_input("object-lock-beyond", pack(item(LOCK, offset=4090)), [live(LOCK)])
any_input("object-lock-at-no-offset", pack(item(LOCK, offset=U64 - 63)), [live(LOCK)])
any_input("object-of-another-kind", pack(item(ARRAY)), [live(VALUE)])
any_input("object-in-a-list", pack(listed(item(EVENT, offset=64)), item(INT, 1)), [live(EVENT)])
any_input("memory-lock", pack(item(LOCK, offset=64)), [MEMORY], header(LOCK, 64) + kin_object(LOCK, 64, word=0x10003))
any_input("memory-array", pack(item(ARRAY)), [MEMORY], header(ARRAY, 40, item_kind=5, item_size=4, count=10) + bytes(40))
any_input("memory-of-nobody", pack(item(SEGMENT)), [MEMORY], b"neither")
any_input("queue-of-too-many-handles", pack(item(QUEUE, 3)), [CHANNEL, CHANNEL])
any_input("connection-of-channels", pack(item(CONNECTION, 3)), [CHANNEL, CHANNEL, CHANNEL])


# ---- corpus/segment ----

def segment_input(name, contents, expected=0, how=MEMORY, fault=0):
    write("segment", name, bytes([how, expected, fault]) + contents)


TWICE, POSES = 0x10, 0x20
segment_input("no-handle", b"", how=NONE)
segment_input("no-memory", b"", how=CHANNEL)
segment_input("empty", b"")
segment_input("text", b"this is no segment of kin's, but a text that is long enough to be one")
segment_input("segment", header(SEGMENT, 100) + b"data".ljust(100, b"."), SEGMENT)
segment_input("segment-twice", header(SEGMENT, 100) + b"data".ljust(100, b"."), SEGMENT, MEMORY | TWICE)
segment_input("segment-of-any-kind", header(SEGMENT, 8) + bytes(8))
segment_input("segment-unexpected", header(SEGMENT, 8) + bytes(8), VALUE)
segment_input("segment-too-large", header(SEGMENT, 4096 - 63), SEGMENT)
segment_input("segment-huge", header(SEGMENT, U64), SEGMENT)
segment_input("segment-other-version", header(SEGMENT, 8, version=2), SEGMENT)
segment_input("segment-that-poses-as-another", header(SEGMENT, 100) + bytes(200), SEGMENT, MEMORY | POSES)
segment_input("array-that-poses-as-a-value", header(ARRAY, 40, 5, 4, 10) + bytes(40), ARRAY, MEMORY | POSES)
segment_input("value-that-poses-as-another", header(VALUE, 128, INT) + bytes(64) + kin_object(LOCK, 64), VALUE, MEMORY | POSES)
segment_input("value-integer", header(VALUE, 128, INT) + struct.pack("<q", -1).ljust(64, b"\0") + kin_object(LOCK, 64), VALUE)
segment_input("value-double", header(VALUE, 128, DOUBLE) + struct.pack("<d", 0.5).ljust(64, b"\0") + kin_object(LOCK, 64), VALUE)
segment_input("value-of-nothing", header(VALUE, 0, 99), VALUE)
segment_input("array", header(ARRAY, 40, 5, 4, 10) + bytes(40), ARRAY)
segment_input("array-item-of-nothing", header(ARRAY, 40, 5, 0, 10), ARRAY)
segment_input("array-of-nothing", header(ARRAY, 40, 5, 4, 0), ARRAY)
segment_input("array-too-long", header(ARRAY, 40, 5, 4, 11), ARRAY)
segment_input("array-overflow", header(ARRAY, 40, 5, 2**63, 4), ARRAY)
segment_input("array-one-large-item", header(ARRAY, 4000, 10, 4000, 1), ARRAY)
for kind, name in ((LOCK, "lock"), (RLOCK, "rlock"), (EVENT, "event"), (CONDITION, "condition"), (SEMAPHORE, "semaphore"),
                   (RWLOCK, "rwlock"), (BARRIER, "barrier")):
    size = SIZES[kind]
    used = min(size, 512)
    segment_input(name, header(kind, size) + kin_object(kind, used), kind)
    segment_input(name + "-owned", header(kind, size) + kin_object(kind, used, word=0x0000000100010003), kind)
    segment_input(name + "-damaged", header(kind, size) + kin_object(kind, used, word=U64 - 1, rest=b"\xff" * 448), kind)
segment_input("live-value", b"", VALUE, live(VALUE) | TWICE)
segment_input("failure-1", header(SEGMENT, 8) + bytes(8), SEGMENT, MEMORY | TWICE, 1)
segment_input("failure-2", header(SEGMENT, 8) + bytes(8), SEGMENT, MEMORY | TWICE, 2)
segment_input("failure-3", header(SEGMENT, 8) + bytes(8), SEGMENT, MEMORY | TWICE, 3)


# ---- corpus/start: src/start.c ----

BUILD, OFFSET = 0x10, 0x20


def record(module=b"", values=b"", build=0, offset=0, magic=0x6B696E72, version=1, name_size=None):
    size = len(module) + 1 if name_size is None else name_size
    return struct.pack("<IIQQQ", magic, version, offset, build, size) + pad(module + b"\0") + values


def start_input(name, data, how=BUILD | OFFSET):
    write("start", name, bytes([how]) + data)


start_input("nothing", b"")
start_input("head-only", record()[:8])
start_input("no-arguments", record(values=pack()))
start_input("arguments", record(values=numbers))
start_input("arguments-missing", record())
start_input("arguments-damaged", record(values=numbers[:-1]))
start_input("handles", record(values=pack(item(FD), item(HANDLE, extra=1))), BUILD | OFFSET | 2)
start_input("handle-missing", record(values=pack(item(FD), item(HANDLE, extra=2))), BUILD | OFFSET | 2)
start_input("another-magic", record(values=pack(), magic=1))
start_input("another-version", record(values=pack(), version=2))
start_input("another-build", record(values=pack(), build=1), OFFSET)
start_input("no-code-there", record(values=pack(), offset=U64 - 7), BUILD)
start_input("not-in-the-code", record(values=pack(), offset=16), BUILD)
start_input("no-such-library", record(b"/no/such/library.so", pack()), 1)
start_input("name-not-ended", record(b"name", pack(), name_size=4))
start_input("name-too-long", record(b"n" * 1100, pack()))
start_input("name-of-no-bytes", record(values=pack(), name_size=0))
start_input("name-beyond", record(values=pack(), name_size=1000))
start_input("name-huge", record(values=pack(), name_size=U64))


# ---- corpus/frame: src/frame.h ----

PIECES, DIRECT, TAKE = 1, 2, 4


def frame_input(name, stream, how=0, limit=1000, fault=0, cut=0):
    write("frame", name, struct.pack("<BHBB", how, limit, fault, cut) + stream)


def framed(*messages, long=False):
    return b"".join((struct.pack(">iQ", -1, len(m)) if long else struct.pack(">i", len(m))) + m for m in messages)


def pieces(*parts):
    return b"".join(struct.pack("<H", len(p) | (0x8000 if last else 0)) + p for p, last in parts)


some = framed(b"", b"x", b"message", b"m" * 300, b"")
frame_input("nothing", b"")
frame_input("messages", some)
frame_input("messages-taken", some, TAKE)
frame_input("messages-byte-by-byte", some, cut=1)
frame_input("messages-in-threes", some, TAKE | DIRECT, cut=3)
frame_input("messages-direct", some, DIRECT, cut=100)
frame_input("messages-with-long-lengths", framed(b"", b"x", b"m" * 300, long=True), cut=5)
frame_input("message-at-the-limit", framed(b"m" * 300), limit=300)
frame_input("message-beyond-the-limit", framed(b"x", b"m" * 300), limit=299)
frame_input("message-cut-short", framed(b"message")[:-1])
frame_input("head-cut-short", framed(b"x") + b"\0\0")
frame_input("long-head-cut-short", b"\xff\xff\xff\xff\0\0\0")
frame_input("length-negative", struct.pack(">i", -2), limit=65535)
frame_input("length-most-negative", struct.pack(">i", -2**31), limit=65535)
frame_input("length-huge", struct.pack(">iQ", -1, 2**63), limit=65535)
frame_input("length-most", struct.pack(">iQ", -1, U64), limit=65535, cut=1)
frame_input("no-memory", some, fault=1)
frame_input("no-memory-to-take", some, TAKE, fault=2)
frame_input("pieces", pieces((b"whole", True), (b"", True), (b"half", False), (b"and half", True), (b"", False), (b"", True)), PIECES)
frame_input("pieces-taken", pieces((b"whole", True), (b"", True), (b"half", False), (b"and half", True)), PIECES | TAKE, fault=2)
frame_input("pieces-too-many", pieces((b"half", False), (b"and half", True)), PIECES, limit=10)


# ---- corpus/handshake: src/auth.h ----

BYTES_, RIGHT, ALMOST = 0, 1, 2
CONNECTS, LISTENS = 0, 1


def handshake_input(name, role, *messages, fault=0):
    data = b""
    for m in messages:
        if isinstance(m, bytes):
            data += struct.pack("<BH", BYTES_, len(m)) + m
        else:
            data += bytes(m)
    write("handshake", name, bytes([role, fault]) + data)


right = (RIGHT,)
for role, name in ((CONNECTS, "connects"), (LISTENS, "listens")):
    handshake_input(name + "-honestly", role, right, right, right)
    handshake_input(name + "-and-more", role, right, right, right, right, b"#WELCOME#")
    handshake_input(name + "-welcome-at-once", role, b"#WELCOME#")
    handshake_input(name + "-failure", role, right, b"#FAILURE#", right)
    handshake_input(name + "-empty", role, b"")
    handshake_input(name + "-too-long", role, b"x" * 257)
    handshake_input(name + "-longest", role, b"#CHALLENGE#{sha256}" + b"r" * 237, right)
    handshake_input(name + "-old-challenge", role, b"#CHALLENGE#" + b"r" * 20)
    handshake_input(name + "-md5-challenge", role, b"#CHALLENGE#{md5}" + b"r" * 40)
    handshake_input(name + "-old-answer", role, b"0123456789abcdef")
    handshake_input(name + "-md5-answer", role, b"{md5}0123456789abcdef")
    handshake_input(name + "-wrong-answer", role, b"{sha256}" + b"m" * 32, right)
    handshake_input(name + "-short-answer", role, b"{sha256}" + b"m" * 31)
    handshake_input(name + "-short-challenge", role, b"#CHALLENGE#{sha256}" + b"r" * 19)
    for step in range(3):
        handshake_input(name + "-almost-%d" % step, role, *([right] * step + [(ALMOST, 30, 1), right, right]))
        handshake_input(name + "-no-memory-%d" % step, role, *([right] * 3), fault=step + 1)
