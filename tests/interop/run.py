"""Runs the program of kin's (interop.c) against Python, both as server and as client: run.py PROGRAM…

By a path (where the program is one of this system) and by TCP. With Python 3.12 or newer the other side is its own
multiprocessing.connection, with any version also peer.py. Older versions' own must be refused. Ends with 77 if there is
nothing to test."""
import multiprocessing
import multiprocessing.connection
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peer  # noqa: E402

PROGRAM = sys.argv[1:]
NATIVE = len(PROGRAM) == 1 and not PROGRAM[0].endswith(".exe")
REAL = sys.version_info >= (3, 12)
KEY = b"the key of this test"
SIZES = [0, 1, 19, 127, 128, 129, 255, 256, 257, 4096, 16384, 16385, 65536, 3000000]
EAUTH = 27


def run(*args):
    return subprocess.Popen(PROGRAM + list(args), stdout=subprocess.PIPE, text=True)


def finish(process, expected=0):
    out, _ = process.communicate(timeout=60)
    if process.returncode == 77:
        print("skipped:", out)
        sys.exit(77)
    assert process.returncode == expected, "it ended with %d: %s" % (process.returncode, out)
    return out


def listen(address, key=KEY):
    process = run("listen", address, key.decode())
    where = process.stdout.readline().strip()
    if not where or " " in where:
        finish(process)
    if where.startswith("tcp:"):
        _, host, port = where.split(":")
        return process, (host, int(port))
    return process, where


def text_of(address):
    return "tcp:%s:%d" % address if isinstance(address, tuple) else address


def payload(size):
    return bytes((i * 7 + i // 251 + size) & 255 for i in range(min(size, 5000))) * (size // 5000 + 1)


def places(directory):
    yield "tcp:127.0.0.1:0", ("127.0.0.1", 0)
    if NATIVE:
        yield os.path.join(directory, "c"), os.path.join(directory, "python")


# ---- Python's own ----

def real_clients(address):
    process, where = listen(address)
    try:
        multiprocessing.connection.Client(where, authkey=b"another key")
        raise AssertionError("a wrong key was taken")
    except multiprocessing.AuthenticationError:
        pass
    for _ in range(5):
        with multiprocessing.connection.Client(where, authkey=KEY) as c:
            for size in SIZES:
                data = payload(size)[:size]
                c.send_bytes(data)
                assert c.recv_bytes() == data
            for i in range(100):
                c.send((i, "text", [1.5, None]))
            for i in range(100):
                assert c.recv() == (i, "text", [1.5, None])
            assert not c.poll(0)
    with multiprocessing.connection.Client(where, authkey=KEY) as c:
        c.send_bytes(b"quit")
        try:
            c.recv_bytes()
            raise AssertionError("it goes on")
        except (EOFError, ConnectionResetError):
            pass
    finish(process)


def real_server(address):
    with multiprocessing.connection.Listener(address, authkey=KEY) as listener:
        process = run("connect", text_of(listener.address), "another key")
        try:
            listener.accept()
            raise AssertionError("a wrong key was taken")
        except multiprocessing.AuthenticationError:
            pass
        assert "KIN_EAUTH" in finish(process, EAUTH)
        process = run("connect", text_of(listener.address), KEY.decode())
        with listener.accept() as c:
            while True:
                data = c.recv_bytes()
                if data == b"quit":
                    break
                c.send_bytes(data)
        finish(process)


def legacy_is_refused(address):
    """Python up to 3.11 proves its key by MD5."""
    process, where = listen(address[0])
    try:
        multiprocessing.connection.Client(where, authkey=KEY)
        raise AssertionError("MD5 was taken")
    except (multiprocessing.AuthenticationError, EOFError, OSError):
        pass
    good = peer.connect(where)
    assert good.answer(KEY) and good.challenge(KEY)
    good.say(b"quit")
    finish(process)
    good.close()
    with multiprocessing.connection.Listener(address[1], authkey=KEY) as listener:
        process = run("connect", text_of(listener.address), KEY.decode())
        try:
            listener.accept()
            raise AssertionError("MD5 was taken")
        except (multiprocessing.AuthenticationError, EOFError, OSError):
            pass
        assert "KIN_EAUTH" in finish(process, EAUTH)


# ---- the one of the description ----

def written_clients(address):
    process, where = listen(address)
    nonces = set()
    c = peer.connect(where)
    assert not c.answer(b"another key")
    c.close()
    for turn in range(5):
        c = peer.connect(where)
        assert c.answer(KEY) and c.challenge(KEY)
        nonces.add(c.check_transcript(KEY, server=False))
        for size in SIZES:
            data = payload(size)[:size]
            c.say(data, long_length=turn % 2 == 1)
            assert c.hear() == data
        if turn == 4:
            c.say(b"quit")
        c.close()
    assert len(nonces) == 5, "challenges repeat"
    finish(process)


def written_server(address):
    port = peer.Port(address)
    for key in (b"another key", KEY):
        process = run("connect", text_of(port.address), key.decode())
        c = port.accept()
        if c.challenge(KEY):
            assert key == KEY and c.answer(KEY)
            c.check_transcript(KEY, server=True)
            for data in iter(c.hear, b"quit"):
                c.say(data)
            finish(process)
        else:
            assert key != KEY and "KIN_EAUTH" in finish(process, EAUTH)
        c.close()
    port.close()


def main():
    with tempfile.TemporaryDirectory() as directory:
        for mine, theirs in places(directory):
            print("by", mine.split("/")[-1])
            written_clients(mine)
            written_server(theirs)
            if not isinstance(theirs, tuple):
                os.unlink(theirs)
            if REAL:
                real_clients(mine)
                real_server(theirs)
            else:
                legacy_is_refused((mine, theirs))
    print("Python %d.%d: %s" % (sys.version_info[:2] + ("its own multiprocessing.connection, and a peer of the description" if REAL else
                                                         "a peer of the description only; its own is older than 3.12, and is refused",)))


main()
