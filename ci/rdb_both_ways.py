#!/usr/bin/env python3
"""Loads the RDB files of redis-server, valkey-server and ours into each other, and compares what they then hold.

    ci/rdb_both_ways.py --server-bin BINARY [--shards 1 4] [--seed N] [--keys N] [--first-port PORT]

A data set of every type, encoding and kind of expiry is made with the same commands on each server (REDIS_SERVER and
VALKEY_SERVER name other binaries), saved there by SAVE and by BGSAVE, with `rdbcompression` on and off, and loaded by all
of them: DEBUG DIGEST, DBSIZE of each database, the expiries and the libraries must be the writer's, and redis-check-rdb
must find the file valid. Exits with 1 if anything differs.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from compare_commands import Client

THRESHOLDS = {
    "hash-max-listpack-entries": [2, 128],
    "hash-max-listpack-value": [8, 64],
    "list-max-listpack-size": [3, -2],
    "list-compress-depth": [1, 0],
    "set-max-intset-entries": [4, 512],
    "zset-max-listpack-entries": [3, 128],
    "zset-max-listpack-value": [8, 64],
    "stream-node-max-entries": [3, 100],
}
FAR_MS = 4_000_000_000_000


class Server:
    def __init__(self, name, command, directory, port, options=()):
        self.name, self.port = name, port
        arguments = ["--port", port, "--dir", directory, "--save", "", "--bind", "127.0.0.1",
                     "--enable-debug-command", "yes", *options]
        self.log = open(os.path.join(directory, "log"), "w")
        self.process = subprocess.Popen([*command, *map(str, arguments)], stdout=self.log, stderr=self.log)
        for _ in range(200):
            try:
                self.client = Client("127.0.0.1", port, 2)
                if not str(self.client.call("PING")).startswith("('-', 'LOADING"):
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.log.close()
        sys.exit(f"{name} does not start:\n" + open(os.path.join(directory, "log")).read()[-3000:])

    def call(self, *words):
        reply = self.client.call(*map(str, words))
        if isinstance(reply, tuple) and reply[0] == "-":
            sys.exit(f"{self.name}: {words[:4]}: {reply[1]}")
        return reply

    def save(self, in_background):
        if not in_background:
            return self.call("SAVE")
        self.call("BGSAVE")
        while "rdb_bgsave_in_progress:1" in self.call("INFO", "persistence"):
            time.sleep(0.02)
        if "rdb_last_bgsave_status:ok" not in self.call("INFO", "persistence"):
            sys.exit(f"{self.name}: the save in the background failed")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)
        self.log.close()


def value(rng):
    kind = rng.randrange(6)
    if kind == 0:
        return str(rng.choice([0, -1, 127, 128, -32769, 70000, 2**31, -2**63, 2**63 - 1, rng.randrange(10**6)]))
    if kind == 1:
        return rng.choice("abc") * rng.choice([1, 30, 300, 5000])
    length = rng.choice([0, 5, 20, 21, 63, 64, 65, 250, 3000])
    return "".join(chr(rng.randrange(256)) for _ in range(length))


LIBRARY = """#!lua name=%s
redis.register_function("get_%s", function(keys, args) return redis.call("GET", keys[1]) end)
redis.register_function{function_name="name_%s", callback=function() return "%s" end, flags={"no-writes"}}
"""


def commands(rng, keys):
    """What fills a server, the thresholds of encodings changed meanwhile."""
    for name in ("first", "second", "gone"):
        yield ("FUNCTION", "LOAD", LIBRARY % (name, name, name, name * 50))
    yield ("FUNCTION", "DELETE", "gone")
    for round in range(2):
        for name, choices in THRESHOLDS.items():
            yield ("CONFIG", "SET", name, choices[round])
        for n in range(keys):
            if n % 10 == 0:
                yield ("SELECT", rng.choice([0, 0, 1, 9, 15]))
            key = f"{round}:{n}:" + rng.choice(["", "{tag}", value(rng)[:40]])
            count = rng.choice([1, 2, 5, 20, 200])
            values = [value(rng) for _ in range(count)]
            # Numbers that Redis 7.0, which shows 17 digits, and its successors spell alike.
            scores = [rng.choice(["1", "-inf", "inf", "2.5", "30125", "0.375", "-3"]) for _ in range(count)]
            kind = n % 9
            if kind == 0:
                yield ("SET", key, values[0])
            elif kind == 1:
                yield ("RPUSH", key, *values)
            elif kind == 2:
                yield ("SADD", key, *values)
            elif kind == 3:
                yield ("SADD", key, *(rng.choice([n, -n * 40000, n << 33]) for n in range(count)))
            elif kind == 4:
                yield ("HSET", key, *(word for pair in zip(values, reversed(values)) for word in pair))
            elif kind == 5:
                yield ("ZADD", key, *(word for pair in zip(scores, values) for word in pair))
            elif kind == 6:
                yield from stream(rng, key, values[:30])
            elif kind == 7:
                yield ("PFADD", key, *values)
            else:
                yield ("SETBIT", key, rng.randrange(20000), 1)
            if rng.randrange(3) == 0:
                yield ("PEXPIREAT", key, FAR_MS + rng.randrange(10**6))


def stream(rng, key, values):
    for n, text in enumerate(values):
        fields = ["f", text] if rng.randrange(4) else ["g", text, "h", str(n)]
        yield ("XADD", key, f"{n + 1}-{n}", *fields)
    yield ("XGROUP", "CREATE", key, "group", 0)
    yield ("XGROUP", "CREATE", key, "idle", "$")
    yield ("XREADGROUP", "GROUP", "group", "one", "COUNT", 3, "STREAMS", key, ">")
    yield ("XREADGROUP", "GROUP", "group", "two", "COUNT", 2, "NOACK", "STREAMS", key, ">")
    yield ("XDEL", key, "1-0")
    if len(values) > 4:
        yield ("XDEL", key, "3-2", "5-4")
        yield ("XACK", key, "group", "2-1")
        yield ("XTRIM", key, "MAXLEN", len(values) - 3)
    if rng.randrange(4) == 0:
        yield ("XTRIM", key, "MAXLEN", 0)


def contents(server):
    """What must be equal. Field values of streams' groups are not in the digest, and looked at by XINFO."""
    seen = {"digest": server.call("DEBUG", "DIGEST")}
    # The order of functions is that of a hash table there.
    seen["libraries"] = sorted([library[1], library[-1]] for library in server.call("FUNCTION", "LIST", "WITHCODE"))
    seen["a function"] = server.call("FCALL", "name_second", 0)
    for db in (0, 1, 9, 15):
        server.call("SELECT", db)
        seen[f"keys of {db}"] = server.call("DBSIZE")
        for key in sorted(server.call("KEYS", "*")):
            seen[f"expiry of {key!r} in {db}"] = server.call("PEXPIRETIME", key)
            if server.call("TYPE", key) == ("+", "stream"):
                groups = server.call("XINFO", "GROUPS", key)
                seen[f"groups of {key!r} in {db}"] = groups
                seen[f"pending of {key!r} in {db}"] = [
                    [entry[0], entry[1], entry[3]] for entry in server.call("XPENDING", key, "group", "-", "+", 100)]
    return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server-bin", required=True)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keys", type=int, default=300)
    parser.add_argument("--first-port", type=int, default=8010)
    args = parser.parse_args()
    redis, valkey = os.environ.get("REDIS_SERVER", "redis-server"), os.environ.get("VALKEY_SERVER", "valkey-server")
    kinds = [("redis-server", [redis], []), ("valkey-server", [valkey], [])]
    for shards in args.shards:
        kinds.append((f"ours with {shards}", [os.path.abspath(args.server_bin)], ["--shards", shards]))
    ports = iter(range(args.first_port, args.first_port + 1000))
    differences = files = 0
    with tempfile.TemporaryDirectory() as root:
        written = []
        for name, command, options in kinds:
            directory = os.path.join(root, name)
            os.mkdir(directory)
            server = Server(name, command, directory, next(ports), options)
            for words in commands(random.Random(args.seed), args.keys):
                server.call(*words)
            expected = contents(server)
            for in_background, compressed in [(False, "yes"), (True, "no")]:
                server.call("CONFIG", "SET", "rdbcompression", compressed)
                server.save(in_background)
                path = os.path.join(root, f"{len(written)}.rdb")
                shutil.copy(os.path.join(directory, "dump.rdb"), path)
                written.append((f"{name}, {'BGSAVE' if in_background else 'SAVE'}", path, expected))
            server.stop()
            if expected["digest"] != written[0][2]["digest"]:
                sys.exit(f"{name} holds something else than {written[0][0]} after the same commands")
        for writer, path, expected in written:
            # Redis 7.0 knows versions up to 10, and valkey-server writes 11.
            too_new = writer.startswith("valkey")
            check = too_new or subprocess.run(["redis-check-rdb", path], capture_output=True, text=True)
            if not too_new and check.returncode != 0:
                differences += 1
                print(f"redis-check-rdb on {writer}:\n{check.stdout[-600:]}")
            for name, command, options in kinds[too_new:]:
                directory = tempfile.mkdtemp(dir=root)
                shutil.copy(path, os.path.join(directory, "dump.rdb"))
                server = Server(name, command, directory, next(ports), options)
                found = contents(server)
                server.stop()
                files += 1
                wrong = sorted(what for what in expected.keys() | found.keys() if expected.get(what) != found.get(what))
                for what in wrong[:5]:
                    print(f"written by {writer}, loaded by {name}: {what}: {expected.get(what)}, then {found.get(what)}")
                differences += len(wrong)
    print(f"{files} loads of {len(written)} files, {differences} differences")
    sys.exit(1 if differences else 0)


main()
