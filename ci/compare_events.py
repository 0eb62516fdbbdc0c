#!/usr/bin/env python3
"""Sends random commands to a valkey-server and to ours, and compares the keyspace events that subscribers hear.

    ci/compare_events.py --server-bin BINARY [--shards 1 2 4] [--commands N] [--seed N] [--only GROUP|COMMAND ...]

The commands are those of `fuzz_types.py`, one at a time, with all classes on; behind each, a message of our own shows that
nothing more is to come. Events of one key must be the same and in the same order; between keys of different shards there
is none. What Valkey changed behind the release at hand stands in EXPECTED. Exits with 1 if there was any other difference.
"""

import argparse
import os
import random
import socket
import sys
import tempfile
import time
from collections import Counter

from compare_commands import Client, start_valkey
from fuzz_types import SPECIAL, Pipeline, common_grammar, shown, start_ours, valkey_with_debug

ROUND_COMMANDS = 200
SHOWN_MAX = 15
LATE_S = 2
# Their random members are not ours.
LEFT_OUT = SPECIAL | {"srandmember", "hrandfield", "zrandmember"}
THRESHOLDS = ["hash-max-listpack-entries", "zset-max-listpack-entries", "set-max-listpack-entries", "set-max-intset-entries"]


class Listener:
    """Everything that is published on a server."""

    def __init__(self, port):
        self.commands = Pipeline("127.0.0.1", port, 2)
        self.commands.call("CONFIG", "SET", "notify-keyspace-events", "KEAnm")
        self.events = Client("127.0.0.1", port, 2)
        self.events.call("PSUBSCRIBE", "*")
        self.marker = 0

    def until_quiet(self):
        """What was heard before a message that is sent now, by key."""
        self.marker += 1
        self.commands.call("PUBLISH", "marker", str(self.marker))
        heard = {}
        while True:
            self.hear(heard)
            if heard.pop("marker", None) == [str(self.marker)]:
                return heard

    def hear(self, heard):
        _, _, channel, message = self.events.read()
        if channel == "marker":
            heard["marker"] = [message]
            return
        kind, rest = channel[2:].split("@", 1)
        db, rest = rest.split("__:", 1)
        key, event = (rest, message) if kind == "keyspace" else (message, rest)
        heard.setdefault((db, key), []).append(f"{kind}:{event}")

    def wait_for(self, heard, expected):
        """A command over several shards may be answered before each of them has told of its keys."""
        deadline = time.time() + LATE_S
        while count(heard) < count(expected) and time.time() < deadline:
            for key, events in self.until_quiet().items():
                heard.setdefault(key, []).extend(events)


def count(heard):
    return sum(len(events) for events in heard.values())


def expected(words, ours, theirs):
    """What later versions of Valkey do, and we with them."""
    replaced = {key: [event.replace(":del", ":expired") for event in events] for key, events in theirs.items()}
    return "expire" in words[0].lower() and ours == replaced


def run_round(theirs, ours, grammar, rng, differences):
    grammar.clock = 0
    for server in [theirs, *ours.values()]:
        server.commands.call("FLUSHALL")
    value = rng.choice(["2", "128"])
    for server in [theirs, *ours.values()]:
        for name in THRESHOLDS:
            server.commands.call("CONFIG", "SET", name, value)
    history = []
    for _ in range(ROUND_COMMANDS):
        words = grammar.command(rng)
        while words[0].lower() in LEFT_OUT or words[0].lower() == "move" and len(words) != 3:
            words = grammar.command(rng)
        history.append(words)
        theirs.commands.call(*words)
        wanted = theirs.until_quiet()
        for name, server in ours.items():
            server.commands.call(*words)
            heard = server.until_quiet()
            server.wait_for(heard, wanted)
            if heard != wanted and not expected(words, heard, wanted):
                differences.append((name, words, heard, wanted))
                report(name, words, heard, wanted, history)
    payloads = [theirs.commands.call("DUMP", key) for key in theirs.commands.call("KEYS", "*")]
    grammar.payloads = [payload for payload in payloads if isinstance(payload, str)][:40]


def report(name, words, heard, wanted, history):
    print(f"\n{name}: {shown(words)}")
    for key in sorted(set(heard) | set(wanted)):
        if heard.get(key) != wanted.get(key):
            print(f"  {key}: ours {heard.get(key, [])}, theirs {wanted.get(key, [])}")
            for before in [line for line in history[:-1] if key[1] in line][-4:]:
                print(f"    after {shown(before)}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server-bin", required=True)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--commands", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], help="groups or commands")
    arguments = parser.parse_args()
    processes, differences, sent = [], [], 0
    with tempfile.TemporaryDirectory() as directory:
        try:
            os.environ["VALKEY_SERVER"] = valkey_with_debug(directory)
            process, port = start_valkey(directory)
            processes.append(process)
            theirs, ours, our_port = Listener(port), {}, None
            for shards in arguments.shards:
                process, our_port = start_ours(arguments.server_bin, shards, directory)
                processes.append(process)
                ours[f"{shards} shards"] = Listener(our_port)
            grammar = common_grammar(port, {"ours": our_port}, arguments.only)
            while sent < arguments.commands and len(differences) < SHOWN_MAX:
                rng = random.Random(f"{arguments.seed}:{sent}")
                run_round(theirs, ours, grammar, rng, differences)
                sent += ROUND_COMMANDS
        finally:
            for process in processes:
                process.kill()
                process.wait()
    kinds = Counter(words[0].upper() for _, words, _, _ in differences)
    print(f"{sent} commands of {len(grammar.names)} kinds, {len(differences)} differ (seed {arguments.seed}) {dict(kinds)}")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
