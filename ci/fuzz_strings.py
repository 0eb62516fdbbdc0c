#!/usr/bin/env python3
"""Sends random string and key commands, valid and not, to two servers and compares all replies, in RESP2 and RESP3.

    ci/fuzz_strings.py HOST:PORT [--batches N] [--seed N] [--protocols 2 3]

starts a valkey-server on a free port (VALKEY_SERVER names another binary). Commands go out in pipelines, so that with
several shards their replies have to be put in order. Both servers are flushed first. What cannot be equal is left out or
evened out: the order of KEYS, the milliseconds between the servers in a TTL, the longest strings (they cost memory).
Exits with 1 if any reply differs, and shows the commands that led there: those before it that name one of its keys.
"""

import argparse
import random
import sys
import tempfile

from compare_commands import Client, start_valkey

KEYS = ["a", "b", "c", "d", "{a}e", "", "k\r\n", "long" * 80]
BATCH_COMMANDS_MAX = 40
HISTORY_COMMANDS = 400
SHOWN_MAX = 10
# Replies that depend on when a command arrived: a time to live, or the time at which it ends.
TIMED = {"ttl", "pttl", "expiretime", "pexpiretime"}
TIMED_TOLERANCE = {"ttl": 2, "expiretime": 2, "pttl": 2000, "pexpiretime": 2000}

INTEGERS = ["0", "1", "-1", "2", "7", "-3", "10", "100", "44", "45", "9223372036854775807", "-9223372036854775808"]
NOT_INTEGERS = ["", "x", "1.5", "01", "+1", "-0", " 1", "1 ", "9223372036854775808", "-9223372036854775809", "0x10", "1e3", "-"]
FLOATS = ["1.5", "-0.1", "3e2", "1e-5", "0x1p3", "5.0e+2", ".5", "5.", "inf", "-inf", "nan", "1e4000", "1e5000", "0.1", "1e17", "-1e-17"]


def key(rng):
    return rng.choice(KEYS)


def text(rng):
    kind = rng.randrange(8)
    if kind < 2:
        return rng.choice(INTEGERS + NOT_INTEGERS)
    if kind == 2:
        return rng.choice(FLOATS)
    if kind == 3:
        return "".join(chr(rng.randrange(256)) for _ in range(rng.randrange(60)))
    if kind == 4:
        return rng.choice("abc") * rng.choice([44, 45, 200, 240, 1023, 1024, 1025, 5000, 32767, 32768, 40000])
    return "".join(rng.choice("abc12") for _ in range(rng.randrange(12)))


def integer(rng):
    return rng.choice(NOT_INTEGERS) if rng.random() < 0.1 else rng.choice(INTEGERS)


def number(rng):
    return rng.choice(FLOATS + INTEGERS + NOT_INTEGERS)


def offset(rng):
    return rng.choice(["536870911", "536870912", "9223372036854775807"]) if rng.random() < 0.1 else integer_below(rng, 60000)


def integer_below(rng, end):
    return integer(rng) if rng.random() < 0.2 else str(int(end ** rng.random()) - rng.randrange(2))


def relative(rng):
    """A time to live: either none at all or long enough not to pass meanwhile."""
    return rng.choice(["100000", "90000000", "0", "-1", "x", "", "9223372036854775807", "9223372036854775", "9000000000000000"])


def absolute(rng):
    return rng.choice(["4000000000", "4000000000000", "99999999999999", "1", "1000", "0", "-1", "x", "9223372036854775807"])


def any_case(rng, word):
    return rng.choice([word, word.lower(), word.capitalize()])


def options(rng, *choices):
    """A few of the options, in any order, sometimes cut short or with a word that is none."""
    words = []
    for _ in range(rng.choice([0, 0, 1, 1, 1, 2, 3])):
        name, *values = rng.choice(choices)
        words += [any_case(rng, name)] + [value(rng) for value in values]
    if words and rng.random() < 0.05:
        words.pop()
    if rng.random() < 0.03:
        words.insert(rng.randrange(len(words) + 1), rng.choice(["FOO", "", "NX ", "EX"]))
    return words


TTL_OPTIONS = [("EX", relative), ("PX", relative), ("EXAT", absolute), ("PXAT", absolute)]
EXPIRE_OPTIONS = [("NX",), ("XX",), ("GT",), ("LT",)]
LCS_OPTIONS = [("LEN",), ("IDX",), ("MINMATCHLEN", integer), ("WITHMATCHLEN",)]


def set_options(rng):
    return options(rng, ("NX",), ("XX",), ("GET",), ("KEEPTTL",), ("PERSIST",), *TTL_OPTIONS)


def getex_options(rng):
    return options(rng, ("PERSIST",), ("PERSIST",), ("KEEPTTL",), ("NX",), *TTL_OPTIONS)


def expire_options(rng):
    return options(rng, *EXPIRE_OPTIONS) if rng.random() < 0.3 else []


def lcs_options(rng):
    return options(rng, *LCS_OPTIONS)


def copy_options(rng):
    return options(rng, ("REPLACE",), ("REPLACE",), ("DB", lambda rng: rng.choice(["0", "1", "15", "16", "-1", "x"])))


def keys(rng):
    return [key(rng) for _ in range(rng.randrange(1, 5))]


def pairs(rng):
    words = [word for _ in range(rng.randrange(1, 4)) for word in (key(rng), text(rng))]
    return words[:-1] if rng.random() < 0.1 else words


def db(rng):
    return rng.choice(["0", "1", "1", "15", "16", "-1", "x"])


def pattern(rng):
    return rng.choice(["*", "?", "[a-c]", "*a*", "\\", "[^a]", "l*g*", ""])


# A command's name and what makes its words: a word or a list of words each.
GRAMMAR = [
    ("append", key, text),
    ("decr", key),
    ("decrby", key, integer),
    ("get", key),
    ("getdel", key),
    ("getex", key, getex_options),
    ("getrange", key, integer, integer),
    ("getset", key, text),
    ("incr", key),
    ("incrby", key, integer),
    ("incrbyfloat", key, number),
    ("lcs", key, key, lcs_options),
    ("mget", keys),
    ("mset", pairs),
    ("msetnx", pairs),
    ("psetex", key, relative, text),
    ("set", key, text, set_options),
    ("set", key, text, set_options),
    ("set", key, text),
    ("setex", key, relative, text),
    ("setnx", key, text),
    ("setrange", key, offset, text),
    ("strlen", key),
    ("substr", key, integer, integer),
    ("copy", key, key, copy_options),
    ("dbsize",),
    ("del", keys),
    ("unlink", keys),
    ("exists", keys),
    ("touch", keys),
    ("expire", key, relative, expire_options),
    ("pexpire", key, relative, expire_options),
    ("expireat", key, absolute, expire_options),
    ("pexpireat", key, absolute, expire_options),
    ("expiretime", key),
    ("pexpiretime", key),
    ("ttl", key),
    ("pttl", key),
    ("persist", key),
    ("keys", pattern),
    ("move", key, db),
    ("object", lambda rng: any_case(rng, "ENCODING"), key),
    ("rename", key, key),
    ("renamenx", key, key),
    ("type", key),
]


def command(rng):
    name, *makers = rng.choice(GRAMMAR)
    words = [any_case(rng, name)]
    for maker in makers:
        made = maker(rng)
        words += made if isinstance(made, list) else [made]
    if rng.random() < 0.02:
        words = words[:-1] if len(words) > 1 and rng.random() < 0.5 else words + [text(rng)]
    # A string of half a gigabyte is allowed, and too much for a fuzzer.
    if name == "setrange" and len(words) > 2 and words[2] == "536870911":
        words[3:] = ["xx"]
    return words


class Pipeline(Client):
    def ask(self, commands):
        encoded = bytearray()
        for words in commands:
            encoded += b"*%d\r\n" % len(words)
            for word in words:
                encoded += b"$%d\r\n%s\r\n" % (len(word), word.encode("latin1"))
        self.socket.sendall(encoded)
        return [self.read() for _ in commands]


def same(words, ours, theirs):
    name = words[0].lower()
    if name == "keys" and isinstance(ours, list) and isinstance(theirs, list):
        return sorted(ours) == sorted(theirs)
    if name in TIMED and isinstance(ours, int) and isinstance(theirs, int) and min(ours, theirs) >= 0:
        return abs(ours - theirs) <= TIMED_TOLERANCE[name]
    return ours == theirs


def shown(words):
    return " ".join(short(word) for word in words)


def short(value):
    value = repr(value)
    return value if len(value) <= 200 else f"{value[:150]}... ({len(value)} characters)"


def fuzz(ours, theirs, batches, rng):
    """`ours` and `theirs` are connections by protocol. Returns how many replies differed, of how many."""
    history, differing, asked = [], 0, 0
    for _ in range(batches):
        protocol = rng.choice(list(ours))
        commands = [command(rng) for _ in range(rng.randrange(1, BATCH_COMMANDS_MAX))]
        replies = zip(commands, ours[protocol].ask(commands), theirs[protocol].ask(commands))
        asked += len(commands)
        for words, our_reply, their_reply in replies:
            history = history[-HISTORY_COMMANDS:] + [words]
            if same(words, our_reply, their_reply):
                continue
            differing += 1
            if differing > SHOWN_MAX:
                continue
            print(f"RESP{protocol} {shown(words)}\n  ours   {short(our_reply)}\n  theirs {short(their_reply)}")
            related = [before for before in history[:-1] if set(before[1:]) & set(words[1:]) & set(KEYS)]
            for before in related[-6:]:
                print(f"  after  {shown(before)}")
    return differing, asked


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="HOST:PORT of the server to test; its data is lost")
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--protocols", type=int, nargs="+", default=[2, 3], choices=[2, 3])
    arguments = parser.parse_args()
    host, port = arguments.address.rsplit(":", 1)
    with tempfile.TemporaryDirectory() as directory:
        process, valkey_port = start_valkey(directory)
        try:
            ours = {protocol: Pipeline(host, int(port), protocol) for protocol in arguments.protocols}
            theirs = {protocol: Pipeline("127.0.0.1", valkey_port, protocol) for protocol in arguments.protocols}
            for server in (ours, theirs):
                server[arguments.protocols[0]].call("FLUSHALL")
            differing, asked = fuzz(ours, theirs, arguments.batches, random.Random(arguments.seed))
        finally:
            process.kill()
            process.wait()
    print(f"{asked} commands, {differing} replies differ (seed {arguments.seed})")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
