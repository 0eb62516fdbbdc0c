#!/usr/bin/env python3
"""Sends jobs through queues on all shards, to workers some of which are killed at any point.

    ci/jobs.py --server-bin BINARY [--shards 4] [--workers 50] [--seconds 10 | --jobs N] [--seed N]

A producer writes a job's body under a key of its own and pushes the job in one pipeline, by the command itself or by a
script, which declares the queue or does not. Workers wait by BLMOVE, BRPOPLPUSH, BLMPOP, BZPOPMIN and XREADGROUP, each on
queues of their own kind, and look for the body of what they get. Every job is delivered exactly once; what a worker had
been given, or was about to be given, when it died, is still on its list of taken jobs or pending (BLMOVE, BRPOPLPUSH,
XREADGROUP), or may be lost with it, once for each death (BLMPOP, BZPOPMIN). No body is missing, and nothing is left in a
queue. Exits with 1 if any of that does not hold.
"""

import random
import sys
import threading
import time

from crowd import Connection, Failed, info, parse_options, server

KINDS = ["blmove", "brpoplpush", "blmpop", "bzpopmin", "xreadgroup"]
QUEUES = 4
DECLARED = "return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))"
UNDECLARED = "return redis.call(unpack(ARGV))"


def by_script(push):
    command, queue, *rest = push
    return ("EVAL", DECLARED, 1, queue, command, *rest)


def by_undeclared_script(push):
    return ("EVAL", UNDECLARED, 0, *push)


class Shop:
    def __init__(self, port, workers, jobs_max, seed):
        self.port = port
        self.jobs_max = jobs_max
        self.lock = threading.Lock()
        self.produced = {kind: set() for kind in KINDS}
        self.delivered = {kind: [] for kind in KINDS}
        self.deaths = {kind: 0 for kind in KINDS}
        self.errors = []
        self.stop_producing = threading.Event()
        self.stop = threading.Event()
        self.producers = [
            threading.Thread(target=self.run, args=(self.produce, kind, number, seed)) for number, kind in enumerate(KINDS)
        ]
        self.workers = [
            threading.Thread(target=self.run, args=(self.work, KINDS[number % len(KINDS)], number, seed))
            for number in range(workers)
        ]

    def run(self, what, kind, number, seed):
        try:
            what(kind, number, random.Random(f"{seed} {what.__name__} {number}"))
        except (Failed, AssertionError, OSError, EOFError, ValueError) as error:
            self.errors.append(f"{kind}: {what.__name__}: {type(error).__name__} {error}")

    def produce(self, kind, number, rng):
        connection = Connection(self.port)
        made = 0
        while not self.stop_producing.is_set():
            commands = []
            for _ in range(rng.randrange(1, 8)):
                job = f"{kind}-{made}"
                made += 1
                queue = f"{kind}:{rng.randrange(QUEUES)}"
                commands.append(("SET", f"body:{job}", f"of {job}"))
                if kind == "bzpopmin":
                    push = ("ZADD", queue, made, job)
                elif kind == "xreadgroup":
                    push = ("XADD", queue, "*", "job", job)
                else:
                    push = ("LPUSH", queue, job)
                commands.append(rng.choice([push, push, by_script(push), by_undeclared_script(push)]))
                self.produced[kind].add(job)
            connection.pipeline(*commands)
            if self.jobs_max and self.made() >= self.jobs_max:
                self.stop_producing.set()
            time.sleep(rng.random() * 0.004)

    def made(self):
        return sum(len(jobs) for jobs in self.produced.values())

    def work(self, kind, number, rng):
        connection = Connection(self.port)
        while not self.stop.is_set():
            if rng.random() < 0.02:
                self.deaths[kind] += 1
                threading.Timer(rng.random() * 0.02, connection.die).start()
            try:
                job = self.take(connection, kind, number, rng)
                if job is None:
                    continue
                with self.lock:
                    self.delivered[kind].append(job)
                body = connection.call("GET", f"body:{job}")
                assert body == f"of {job}".encode(), f"{job} has the body {body}"
                if kind in ("blmove", "brpoplpush"):
                    connection.call("LREM", f"{kind}:taken:{number}", 1, job)
            except (OSError, EOFError):
                connection = Connection(self.port)

    def take(self, connection, kind, number, rng):
        queues = [f"{kind}:{queue}" for queue in range(QUEUES)]
        rng.shuffle(queues)
        if kind == "blmove":
            reply = connection.call("BLMOVE", queues[0], f"{kind}:taken:{number}", "RIGHT", "LEFT", 0.1)
        elif kind == "brpoplpush":
            reply = connection.call("BRPOPLPUSH", queues[0], f"{kind}:taken:{number}", 0.1)
        elif kind == "blmpop":
            reply = connection.call("BLMPOP", 0.1, QUEUES, *queues, "RIGHT")
            reply = reply and reply[1][0]
        elif kind == "bzpopmin":
            reply = connection.call("BZPOPMIN", *queues, 0.1)
            reply = reply and reply[1]
        else:
            words = ["XREADGROUP", "GROUP", "workers", f"worker{number}", "COUNT", 1, "BLOCK", 100, "STREAMS"]
            reply = connection.call(*words, queues[0], ">")
            reply = reply and reply[0][1][0][1][1]
        return reply.decode() if reply else None

    def check(self, connection, kind):
        """What is left, and what is wrong with it."""
        delivered = self.delivered[kind]
        if len(delivered) != len(set(delivered)):
            yield f"{len(delivered) - len(set(delivered))} jobs were delivered twice"
        undelivered = self.produced[kind] - set(delivered)
        unknown = set(delivered) - self.produced[kind]
        if unknown:
            yield f"{len(unknown)} jobs came from nowhere"
        for queue in range(QUEUES):
            name = f"{kind}:{queue}"
            if kind == "xreadgroup":
                group = connection.call("XINFO", "GROUPS", name)[0]
                fields = dict(zip(group[::2], group[1::2]))
                if fields[b"lag"] != 0:
                    yield f"{fields[b'lag']} jobs are stranded in {name}"
                pending = connection.call("XPENDING", name, "workers", "-", "+", 1000000)
                entries = [connection.call("XRANGE", name, entry[0], entry[0])[0] for entry in pending]
                undelivered -= {entry[1][1].decode() for entry in entries}
            elif connection.call("EXISTS", name):
                yield f"jobs are stranded in {name}"
        if kind in ("blmove", "brpoplpush"):
            for number in range(len(self.workers)):
                undelivered -= {job.decode() for job in connection.call("LRANGE", f"{kind}:taken:{number}", 0, -1)}
            lost_max = 0
        else:
            lost_max = 0 if kind == "xreadgroup" else self.deaths[kind]
        if len(undelivered) > lost_max:
            yield f"{len(undelivered)} jobs are lost, with {self.deaths[kind]} deaths"


def main():
    options = parse_options(__doc__, "workers", jobs=0)
    with server(options.server_bin, options.shards) as port:
        admin = Connection(port)
        for queue in range(QUEUES):
            admin.call("XGROUP", "CREATE", f"xreadgroup:{queue}", "workers", "$", "MKSTREAM")
        shop = Shop(port, options.workers, options.jobs, options.seed)
        for thread in shop.workers + shop.producers:
            thread.start()
        if not options.jobs:
            time.sleep(options.seconds)
            shop.stop_producing.set()
        for thread in shop.producers:
            thread.join(timeout=None if options.jobs else 60)
        # Workers wait a tenth of a second: what is left when none of them has got anything for many times that, is left
        # for ever. Before, there may be a backlog.
        before = -1
        while (now := sum(len(jobs) for jobs in shop.delivered.values())) != before:
            before = now
            time.sleep(3)
        shop.stop.set()
        for thread in shop.workers:
            thread.join(timeout=60)
        errors = shop.errors
        if any(thread.is_alive() for thread in shop.workers + shop.producers):
            errors.append("clients wait for ever")
        for kind in KINDS:
            errors += [f"{kind}: {what}" for what in shop.check(admin, kind)]
            if not shop.delivered[kind]:
                errors.append(f"{kind}: nothing was delivered")
        counts = ", ".join(f"{kind} {len(shop.delivered[kind])} of {len(shop.produced[kind])}" for kind in KINDS)
        print(f"seed {options.seed}: {counts}; {sum(shop.deaths.values())} deaths; {info(admin, 'transactions_')}")
        admin.call("FLUSHALL")
        for error in errors[:8]:
            print(error)
        sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
