"""What ci/money.py and ci/jobs.py have in common: a server of their own, and a connection that can die at any point."""

import argparse
import contextlib
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time


class Failed(Exception):
    """A reply that says so."""


class Connection:
    """Replies: bytes, int, None, lists of these; an error is a Failed, returned and not raised."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, *commands):
        out = []
        for words in commands:
            out.append(b"*%d\r\n" % len(words))
            for word in words:
                word = word if isinstance(word, bytes) else str(word).encode()
                out.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.socket.sendall(b"".join(out))

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Failed(rest.decode())
        if kind == b":":
            return int(rest)
        length = int(rest)
        if length < 0:
            return None
        return self.file.read(length + 2)[:-2] if kind == b"$" else [self.read() for _ in range(length)]

    def pipeline(self, *commands):
        """All replies; an error among them is raised."""
        self.send(*commands)
        replies = [self.read() for _ in commands]
        for reply in replies:
            if isinstance(reply, Failed):
                raise reply
        return replies

    def call(self, *words):
        return self.pipeline(words)[0]

    def die(self):
        """At once, with whatever is on its way: the peer sees a reset."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()

    def close(self):
        self.file.close()
        self.socket.close()


def parse_options(doc, crowd, **more):
    """What both take; `crowd` is the name of the option for the size of the crowd. `more`: numbers, with their defaults."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--server-bin", required=True)
    parser.add_argument("--shards", type=int, default=4, help="0: a server without that option")
    parser.add_argument(f"--{crowd}", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


@contextlib.contextmanager
def server(binary, shards):
    """Its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        options = ["--port", str(port), "--save", "", "--dir", directory, "--bind", "127.0.0.1"]
        if shards:
            options += ["--shards", str(shards)]
        process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
        try:
            for _ in range(200):
                try:
                    Connection(port).close()
                    break
                except OSError:
                    time.sleep(0.05)
            else:
                sys.exit(f"{binary} does not answer on port {port}")
            yield port
            if process.poll() is not None:
                sys.exit(f"{binary} ended with {process.returncode}")
        finally:
            process.kill()
            process.wait()


def info(connection, prefix):
    """INFO's fields that begin so."""
    lines = connection.call("INFO").decode().splitlines()
    return {name: value for name, _, value in (line.partition(":") for line in lines) if name.startswith(prefix)}
