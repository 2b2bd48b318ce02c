"""A peer that speaks the protocol of multiprocessing.connection (Python 3.12 and newer), written from its description, and keeps
a transcript of every byte. It is not lenient: what a message of the handshake may be, it must be to the byte."""
import hashlib
import hmac
import socket
import struct

RANDOM = bytes(range(40))


class Wrong(Exception):
    pass


class Peer:
    def __init__(self, sock):
        self.sock = sock
        self.transcript = []  # ("sent" or "got", the bytes of a message with its length)
        sock.settimeout(60)

    def close(self):
        self.sock.close()

    def read(self, count):
        parts = []
        while count:
            part = self.sock.recv(min(count, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def say(self, message, long_length=False):
        head = struct.pack("!iQ", -1, len(message)) if long_length else struct.pack("!i", len(message))
        self.sock.sendall(head + message)
        self.transcript.append(("sent", head + message))

    def hear(self):
        head = self.read(4)
        (size,) = struct.unpack("!i", head)
        if size == -1:
            more = self.read(8)
            (size,) = struct.unpack("!Q", more)
            if size <= 0x7FFFFFFF:
                raise Wrong("eight bytes for a length of %d" % size)
            head += more
        message = self.read(size)
        self.transcript.append(("got", head + message))
        return message

    def challenge(self, key):
        self.say(b"#CHALLENGE#{sha256}" + RANDOM)
        answer = self.hear()
        if answer == b"{sha256}" + hmac.new(key, b"{sha256}" + RANDOM, hashlib.sha256).digest():
            self.say(b"#WELCOME#")
            return True
        self.say(b"#FAILURE#")
        return False

    def answer(self, key):
        message = self.hear()
        if len(message) != 59 or not message.startswith(b"#CHALLENGE#{sha256}"):
            raise Wrong("no challenge: %r" % message)
        self.say(b"{sha256}" + hmac.new(key, message[11:], hashlib.sha256).digest())
        verdict = self.hear()
        if verdict not in (b"#WELCOME#", b"#FAILURE#"):
            raise Wrong("no verdict: %r" % verdict)
        return verdict == b"#WELCOME#"

    def check_transcript(self, key, server):
        """The first six messages, each whole, in this order, by these lengths; nothing in between."""
        by_server, by_client = ("sent", "got") if server else ("got", "sent")
        kinds = [(by_server, 59), (by_client, 40), (by_server, 9), (by_client, 59), (by_server, 40), (by_client, 9)]
        seen = [(who, len(data) - 4) for who, data in self.transcript[:6]]
        if seen != kinds:
            raise Wrong("the handshake was %r" % seen)
        for i in (0, 3):
            nonce = self.transcript[i][1][4 + 11:]
            answer = self.transcript[i + 1][1][4:]
            if answer != b"{sha256}" + hmac.new(key, nonce, hashlib.sha256).digest():
                raise Wrong("answer %d" % i)
            if self.transcript[i + 2][1][4:] != b"#WELCOME#":
                raise Wrong("verdict %d" % i)
        nonces = [self.transcript[i][1][4 + 19:] for i in (0, 3)]
        theirs = nonces[1] if server else nonces[0]
        if theirs == RANDOM or len(set(theirs)) < 10:
            raise Wrong("not random: %r" % theirs)
        return theirs


def connect(address):
    if isinstance(address, tuple):
        return Peer(socket.create_connection(address))
    s = socket.socket(socket.AF_UNIX)
    s.connect(address)
    return Peer(s)


class Port:
    def __init__(self, address):
        tcp = isinstance(address, tuple)
        self.sock = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        self.sock.bind(address)
        self.sock.listen(5)
        self.sock.settimeout(60)
        self.address = self.sock.getsockname()

    def accept(self):
        return Peer(self.sock.accept()[0])

    def close(self):
        self.sock.close()
