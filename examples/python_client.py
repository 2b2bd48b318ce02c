"""A client in Python for python_server.c: starts the server, asks it some questions, and has it stop.

    python3 python_client.py python_server          (Python 3.12 or newer)
"""
import subprocess
import sys
from multiprocessing.connection import AuthenticationError, Client

if sys.version_info < (3, 12):
    print("skipped: before 3.12 Python proves its key by MD5, which kin refuses")
    sys.exit(77)

server = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
_, host, port = server.stdout.readline().strip().split(":")
address = (host, int(port))

try:
    Client(address, authkey=b"another secret")
    sys.exit("the server took a wrong key")
except AuthenticationError as error:
    print("with a wrong key:", error)

with Client(address, authkey=b"a shared secret") as connection:
    for question in (10, 100, 1000000, 99999999):
        connection.send_bytes(str(question).encode())
        print("primes below %d: %s" % (question, connection.recv_bytes().decode()))
    connection.send_bytes(b"stop")

print("the server ended with", server.wait())
