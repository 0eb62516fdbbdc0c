#!/usr/bin/env python3
"""Moves money between accounts on all shards, from many clients at once, some of which die at any point.

    ci/money.py --server-bin BINARY [--shards 4] [--clients 50] [--seconds 10] [--seed N]

Transfers are made by WATCH, MULTI and EXEC (read, then write what was computed: a lost update makes or loses money), by
EXEC of DECRBY and INCRBY, by MSET of two accounts that no other client writes, and by script where the server has EVAL,
with its keys declared and not. Readers add up all accounts by MGET, by EXEC and by script: every sum has to be the same.
Meanwhile one BGSAVE follows another; how long they took to begin is told. At the end nothing is locked: commands on the
whole keyspace answer. Exits with 1 if any of that does not hold.
"""

import multiprocessing
import random
import sys
import threading
import time

from crowd import Connection, Failed, info, parse_options, server

ACCOUNTS = [f"account:{number}" for number in range(64)]
BALANCE = 1000
DECLARED = """
local from, to = tonumber(redis.call('GET', KEYS[1])), tonumber(redis.call('GET', KEYS[2]))
redis.call('SET', KEYS[1], from - ARGV[1])
redis.call('SET', KEYS[2], to + ARGV[1])
return 1
"""
UNDECLARED = """
redis.call('DECRBY', 'account:' .. ARGV[1], ARGV[3])
redis.call('INCRBY', 'account:' .. ARGV[2], ARGV[3])
return 1
"""
READ = "local balances = {} for i, key in ipairs(KEYS) do balances[i] = redis.call('GET', key) end return balances"


class Bank:
    def __init__(self, port, clients, seed, has_scripts):
        self.port = port
        self.stop = threading.Event()
        self.counts = {}
        self.count_lock = threading.Lock()
        self.errors = []
        # Each of these writes two accounts that no other client writes.
        owners = max(clients // 10, 1)
        self.accounts = ACCOUNTS + [f"own:{owner}:{side}" for owner in range(owners) for side in ("a", "b")]
        self.total = BALANCE * len(self.accounts)
        shared = [self.by_watch, self.by_watch, self.by_exec, self.read_by_mget, self.read_by_exec]
        if has_scripts:
            shared += [self.by_script, self.by_undeclared_script, self.read_by_script]
        self.threads = []
        for number in range(clients):
            rng = random.Random(f"{seed} {number}")
            what = (lambda c, r, owner=number: self.by_mset(c, r, owner)) if number < owners else shared[number % len(shared)]
            self.threads.append(threading.Thread(target=self.client, args=(what, rng)))

    def client(self, what, rng):
        done = 0
        connection = Connection(self.port)
        while not self.stop.is_set():
            try:
                if rng.random() < 0.01:
                    # It dies somewhere in what it does next.
                    threading.Timer(rng.random() * 0.01, connection.die).start()
                done += what(connection, rng)
            except (OSError, EOFError):
                try:
                    connection = Connection(self.port)
                except OSError as error:
                    self.errors.append(f"{what.__name__}: {error}")
                    break
            except (Failed, AssertionError) as error:
                self.errors.append(f"{what.__name__}: {error}")
                break
        with self.count_lock:
            name = what.__name__.replace("<lambda>", "by_mset")
            self.counts[name] = self.counts.get(name, 0) + done

    def by_watch(self, connection, rng):
        a, b = rng.sample(ACCOUNTS, 2)
        amount = rng.randrange(1, 50)
        _, from_balance, to_balance = connection.pipeline(("WATCH", a, b), ("GET", a), ("GET", b))
        replies = connection.pipeline(
            ("MULTI",), ("SET", a, int(from_balance) - amount), ("SET", b, int(to_balance) + amount), ("EXEC",)
        )
        return replies[-1] is not None

    def by_exec(self, connection, rng):
        a, b = rng.sample(ACCOUNTS, 2)
        amount = rng.randrange(1, 50)
        connection.pipeline(("MULTI",), ("DECRBY", a, amount), ("INCRBY", b, amount), ("EXEC",))
        return 1

    def by_mset(self, connection, rng, owner):
        amount = rng.randrange(-500, 500)
        connection.call("MSET", f"own:{owner}:a", BALANCE - amount, f"own:{owner}:b", BALANCE + amount)
        return 1

    def by_script(self, connection, rng):
        a, b = rng.sample(ACCOUNTS, 2)
        return connection.call("EVAL", DECLARED, 2, a, b, rng.randrange(1, 50))

    def by_undeclared_script(self, connection, rng):
        a, b = rng.sample(range(len(ACCOUNTS)), 2)
        return connection.call("EVAL", UNDECLARED, 0, a, b, rng.randrange(1, 50))

    def read_by_mget(self, connection, rng):
        self.check(connection.call("MGET", *self.accounts))
        return 1

    def read_by_exec(self, connection, rng):
        gets = [("GET", account) for account in self.accounts]
        self.check(connection.pipeline(("MULTI",), *gets, ("EXEC",))[-1])
        return 1

    def read_by_script(self, connection, rng):
        self.check(connection.call("EVAL", READ, len(self.accounts), *self.accounts))
        return 1

    def check(self, balances):
        found = sum(map(int, balances))
        assert found == self.total, f"the accounts hold {found} and not {self.total}"


def save_again_and_again(port, seconds):
    """Tells how long BGSAVE took to begin, for which transactions and scripts have to make way. A process of its own: the
    clients' threads leave each other no time to measure."""
    admin, begins_ms, end = Connection(port), [], time.monotonic() + seconds
    while time.monotonic() < end:
        if info(admin, "rdb_bgsave_in_progress") == {"rdb_bgsave_in_progress": "0"}:
            begun = time.monotonic()
            admin.call("BGSAVE")
            begins_ms.append((time.monotonic() - begun) * 1000)
        time.sleep(0.05)
    begins_ms.sort()
    print(f"{len(begins_ms)} saves begun, half of them within {begins_ms[len(begins_ms) // 2]:.1f} ms, all within "
          f"{begins_ms[-1]:.1f} ms")


def main():
    options = parse_options(__doc__, "clients")
    with server(options.server_bin, options.shards) as port:
        admin = Connection(port)
        admin.send(("EVAL", "return 1", 0))
        bank = Bank(port, options.clients, options.seed, has_scripts=admin.read() == 1)
        admin.call("MSET", *(word for account in bank.accounts for word in (account, BALANCE)))
        saver = multiprocessing.get_context("fork").Process(target=save_again_and_again, args=(port, options.seconds))
        saver.start()
        for thread in bank.threads:
            thread.start()
        time.sleep(options.seconds)
        bank.stop.set()
        for thread in bank.threads:
            thread.join(timeout=60)
        stuck = sum(thread.is_alive() for thread in bank.threads)
        errors = bank.errors
        saver.join(timeout=60)
        if saver.exitcode != 0:
            errors.append("saves could not be begun")
        if stuck:
            errors.append(f"{stuck} clients wait for ever")
        bank.check(admin.call("MGET", *bank.accounts))
        if admin.call("DBSIZE") != len(bank.accounts):
            errors.append("DBSIZE counts other keys than the accounts")
        counts = ", ".join(f"{name} {count}" for name, count in sorted(bank.counts.items()))
        print(f"seed {options.seed}: {counts}; {info(admin, 'transactions_')}")
        admin.call("FLUSHALL")
        for error in errors[:5]:
            print(error)
        missing = [name for name, count in bank.counts.items() if count == 0]
        for name in missing:
            print(f"{name}: nothing went through")
        sys.exit(1 if errors or missing else 0)


if __name__ == "__main__":
    main()
