#!/usr/bin/env python3
"""Runs random commands on a server with an append-only file, and has valkey-server load what it wrote.

    ci/aof_effects.py --server-bin BINARY [--shards 1 4] [--rounds N] [--commands N] [--seed N]

Commands on all types, by the grammar of ci/fuzz_types.py, alone and in MULTI, over several databases; scripts; FLUSHALL,
FLUSHDB and SWAPDB; keys that expire. Then the server is stopped, valkey-server loads the directory, and DEBUG DIGEST of
both must be equal. Exits with 1 if any differs, and keeps the directory.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

from compare_commands import start_valkey
from fuzz_types import Pipeline, common_grammar, free_port, valkey_with_debug

SCRIPT = "for i, key in ipairs(KEYS) do redis.call('incrby', key, ARGV[1]) end; return redis.call('dbsize')"
NUMBERS = [f"number:{number}" for number in range(20)]
DATABASES = 3


def start(command, directory, *options):
    port = free_port()
    arguments = ["--port", port, "--dir", directory, "--save", "", "--bind", "127.0.0.1",
                 "--enable-debug-command", "yes", "--appendonly", "yes", *options]
    log = open(os.path.join(directory, "log"), "a", encoding="utf-8")
    process = subprocess.Popen([*command, *map(str, arguments)], stdout=log, stderr=log)
    for _ in range(400):
        try:
            client = Pipeline("127.0.0.1", port, 2)
            if "LOADING" not in str(client.call("PING")):
                return process, client
        except OSError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    sys.exit(f"{command} does not start, see {directory}/log")


def batch(grammar, rng):
    """Some commands, which belong together or not."""
    kind = rng.random()
    if kind < 0.02:
        return [rng.choice([["FLUSHALL"], ["FLUSHDB"], ["FLUSHDB", "ASYNC"], ["SWAPDB", "0", "1"], ["SWAPDB", "1", "9999"]])]
    if kind < 0.07:
        keys = rng.sample(NUMBERS, rng.choice([1, 2, 5]))
        return [["EVAL", SCRIPT, str(len(keys)), *keys, "3"]]
    if kind < 0.12:
        return [["SELECT", str(rng.randrange(DATABASES))]]
    if kind < 0.17:
        return [["MSET", *[word for key in rng.sample(NUMBERS, 4) for word in (key, "7")]]]
    commands = [grammar.command(rng) for _ in range(rng.randrange(1, 20))]
    if kind < 0.5:
        if rng.random() < 0.05:
            commands.append(rng.choice([["FLUSHDB"], ["SWAPDB", "0", "2"], ["FLUSHALL"]]))
            commands.append(["SET", "behind", "it"])
        return [["MULTI"], *commands, ["EXEC"]]
    return commands


def run_round(binary, shards, grammar, seed, commands_max):
    rng = random.Random(seed)
    directory = tempfile.mkdtemp(prefix="aof-effects-")
    policy = rng.choice(["always", "everysec", "no"])
    options = ["--appendfsync", policy, "--aof-timestamp-enabled", rng.choice(["yes", "no"])]
    process, client = start([binary, "--shards", str(shards)], directory, *options)
    grammar.clock, sent = 0, 0
    while sent < commands_max:
        commands = batch(grammar, rng)
        client.ask(commands)
        sent += len(commands)
    # What expires soon is gone in both.
    time.sleep(0.3)
    ours = client.call("DEBUG", "DIGEST")
    process.terminate()
    process.wait()
    process, client = start([os.environ["VALKEY_SERVER"]], directory)
    theirs = client.call("DEBUG", "DIGEST")
    process.kill()
    process.wait()
    if ours == theirs:
        shutil.rmtree(directory)
        return True
    print(f"seed {seed}, {shards} shards, {policy}: {ours} here, {theirs} there, see {directory}")
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server-bin", required=True)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--commands", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    differences = 0
    with tempfile.TemporaryDirectory() as directory:
        os.environ["VALKEY_SERVER"] = valkey_with_debug(directory)
        valkey, theirs = start_valkey(directory)
        process, client = start([arguments.server_bin, "--shards", "1"], directory)
        grammar = common_grammar(theirs, {"ours": client.socket.getpeername()[1]}, [])
        process.kill()
        valkey.kill()
        for number in range(arguments.rounds):
            for shards in arguments.shards:
                seed = f"{arguments.seed}:{number}"
                differences += not run_round(arguments.server_bin, shards, grammar, seed, arguments.commands)
    print(f"{arguments.rounds * len(arguments.shards)} rounds of {arguments.commands} commands, {differences} differ")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
