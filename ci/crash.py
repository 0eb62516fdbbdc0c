#!/usr/bin/env python3
"""Kills the server at random moments, and looks whether everything it has acknowledged is there when it is back.

    ci/crash.py --server-bin BINARY [--rounds N] [--shards 1 4] [--modes always everysec no] [--clients N] [--seed N]
                [--first-port PORT]

Each round starts the server on the append-only directory that the rounds before have left, with one of the numbers of
shards and one of the modes of appendfsync. Clients write in pipelines: SET, INCR and LPUSH on keys of their own, and one
number into four keys, mostly on several shards, by MSET, by MULTI and by a script; FLUSHDB and SWAPDB on other databases
meanwhile. Then the server is killed (SIGKILL). Started again, it must hold what every client was told, and of the last
writes, which nobody was told of, each wholly or not at all. At the end the server is stopped, and the directory must load
here, in redis-server and in valkey-server (REDIS_SERVER and VALKEY_SERVER name other binaries) with the same DEBUG DIGEST.
Exits with 1 if anything is missing, and keeps the directory.
"""

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BATCH = 12
SCRIPT = "for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1]) end return ARGV[1]"
# What a client writes, and how many keys that takes.
KINDS = {"set": 1, "incr": 1, "push": 1, "mset": 4, "exec": 4, "script": 4}


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb")

    def send(self, *commands):
        parts = []
        for words in commands:
            parts.append(b"*%d\r\n" % len(words))
            for word in words:
                word = word if isinstance(word, bytes) else str(word).encode()
                parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.socket.sendall(b"".join(parts))

    def receive(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server is gone")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            length = int(rest)
            if length < 0:
                return None
            body = self.file.read(length + 2)
            if len(body) < length + 2:
                raise ConnectionError("the server is gone")
            return body[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.receive() for _ in range(int(rest))]
        if kind == b"-":
            return RuntimeError(rest.decode())
        return int(rest) if kind == b":" else rest

    def call(self, *words):
        self.send(words)
        reply = self.receive()
        if isinstance(reply, RuntimeError):
            raise reply
        return reply


def start(command, port, directory, log, *options):
    arguments = ["--port", port, "--dir", directory, "--save", "", "--bind", "127.0.0.1", "--appendonly", "yes",
                 "--enable-debug-command", "yes", *options]
    with open(log, "ab") as out:
        process = subprocess.Popen([command, *map(str, arguments)], stdout=out, stderr=out)
    for _ in range(1200):
        try:
            connection = Connection(port)
            connection.call("PING")
            return process, connection
        except (OSError, RuntimeError):
            if process.poll() is not None:
                break
            time.sleep(0.05)
    process.kill()
    process.wait()
    sys.exit(f"{command} does not start: see {log}\n" + open(log, errors="replace").read()[-3000:])


class Client:
    """What one client has written: by kind, the last number it has sent, and the last it was told of."""

    def __init__(self, number, seed):
        self.number, self.rng = number, random.Random(seed)
        self.sent, self.told = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
        self.failure = None

    def keys(self, kind):
        return [f"{kind}:{self.number}:{part}" for part in range(KINDS[kind])]

    def commands(self, kind, value):
        keys = self.keys(kind)
        if kind == "set":
            return [("SET", keys[0], value)]
        if kind == "incr":
            return [("INCR", keys[0])]
        if kind == "push":
            return [("LPUSH", keys[0], value)]
        if kind == "mset":
            return [("MSET", *(word for key in keys for word in (key, value)))]
        if kind == "exec":
            return [("MULTI",), *(("SET", key, value) for key in keys), ("EXEC",)]
        return [("EVAL", SCRIPT, len(keys), *keys, value)]

    def run(self, port):
        try:
            connection = Connection(port)
            while True:
                kinds = [self.rng.choice(list(KINDS)) for _ in range(self.rng.choice([1, BATCH]))]
                batch, owed = [], []
                for kind in kinds:
                    self.sent[kind] += 1
                    commands = self.commands(kind, self.sent[kind])
                    batch += commands
                    owed.append((kind, self.sent[kind], len(commands)))
                connection.send(*batch)
                for kind, value, replies in owed:
                    for _ in range(replies):
                        reply = connection.receive()
                        if isinstance(reply, RuntimeError):
                            self.failure = f"{kind}: {reply}"
                            return
                    self.told[kind] = value
        except OSError:
            pass

    def check(self, connection):
        """What is wrong, and from now on what is there counts."""
        wrong = []
        for kind in KINDS:
            keys = self.keys(kind)
            if kind == "push":
                held = connection.call("LRANGE", keys[0], 0, -1)
                if held != [str(number).encode() for number in range(len(held), 0, -1)]:
                    wrong.append(f"{keys[0]} has {held[:5]} … of {len(held)}")
                values = [len(held)]
            else:
                values = [int(value or 0) for value in connection.call("MGET", *keys)]
            if len(set(values)) > 1:
                wrong.append(f"{keys} hold {values}: not one transaction's")
            elif not self.told[kind] <= values[0] <= self.sent[kind]:
                wrong.append(f"{keys[0]} is at {values[0]}: told of {self.told[kind]}, sent up to {self.sent[kind]}")
            self.sent[kind] = self.told[kind] = values[0]
        return wrong


def disturb(port, seed, ends):
    """Steps of the whole keyspace, on databases that nobody looks at."""
    rng = random.Random(seed)
    try:
        connection = Connection(port)
        while not ends.wait(rng.uniform(0.05, 0.4)):
            connection.call("SELECT", 8)
            connection.call("SET", f"other:{rng.randrange(100)}", rng.randrange(100))
            connection.call("SWAPDB", 8, 9)
            if rng.randrange(3) == 0:
                connection.call("FLUSHDB")
    except (OSError, RuntimeError):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server-bin", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--modes", nargs="+", default=["always", "everysec", "no"])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--first-port", type=int, default=8410)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    binary = os.path.abspath(args.server_bin)
    directory = tempfile.mkdtemp(prefix="peristyle-crash-")
    log = os.path.join(directory, "log")
    ports = iter(range(args.first_port, args.first_port + args.rounds + 10))
    clients = [Client(number, rng.random()) for number in range(args.clients)]
    print(f"seed {args.seed}, {directory}")
    acknowledged, wrong = 0, []
    for round_ in range(args.rounds + 1):
        shards, mode, port = rng.choice(args.shards), args.modes[round_ % len(args.modes)], next(ports)
        process, connection = start(binary, port, directory, log, "--shards", shards, "--appendfsync", mode)
        wrong = [line for client in clients for line in client.check(connection)]
        if wrong or round_ == args.rounds:
            break
        before = sum(sum(client.told.values()) for client in clients)
        ends = threading.Event()
        threads = [threading.Thread(target=client.run, args=(port,)) for client in clients]
        threads.append(threading.Thread(target=disturb, args=(port, rng.random(), ends)))
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0.1, 1.5))
        process.kill()
        process.wait()
        ends.set()
        for thread in threads:
            thread.join()
        wrong = [client.failure for client in clients if client.failure]
        if wrong:
            break
        written = sum(sum(client.told.values()) for client in clients) - before
        acknowledged += written
        print(f"round {round_ + 1}: {shards} shards, {mode}: {written} writes acknowledged")
    if not wrong:
        wrong = compare(binary, connection, process, directory, log, ports, rng.choice(args.shards))
    else:
        process.kill()
        process.wait()
    for line in wrong[:20]:
        print(line)
    if wrong:
        sys.exit(f"wrong; the directory is kept: {directory}")
    shutil.rmtree(directory)
    print(f"{args.rounds} rounds, {acknowledged} writes acknowledged: all there, and the directory loads everywhere")


def compare(binary, connection, process, directory, log, ports, shards):
    """Stops the server, and has others load what it has left."""
    wrong = []
    digest = connection.call("DEBUG", "DIGEST")
    process.send_signal(signal.SIGTERM)
    if process.wait(timeout=60) != 0:
        wrong.append("the server did not end well")
    checked = subprocess.run([binary, "check", os.path.join(directory, "appendonlydir")], capture_output=True, text=True)
    if checked.returncode != 0:
        wrong.append(f"peristyle check: {checked.stdout[-500:]}")
    redis, valkey = os.environ.get("REDIS_SERVER", "redis-server"), os.environ.get("VALKEY_SERVER", "valkey-server")
    for command, options in [(binary, ["--shards", shards]), (redis, []), (valkey, [])]:
        copy = tempfile.mkdtemp(prefix="peristyle-crash-")
        shutil.copytree(os.path.join(directory, "appendonlydir"), os.path.join(copy, "appendonlydir"))
        process, connection = start(command, next(ports), copy, log, *options)
        found = connection.call("DEBUG", "DIGEST")
        if found != digest:
            wrong.append(f"{command} loads {found}, not {digest}")
        process.kill()
        process.wait()
        shutil.rmtree(copy)
    return wrong


main()
