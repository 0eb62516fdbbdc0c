#!/usr/bin/env python3
"""Sends random commands of all data types, valid and not, to a valkey-server and to ours, and compares the replies.

    ci/fuzz_types.py --server-bin BINARY [--shards 1 2 4] [--commands N] [--seed N] [--protocols 2 3] [--only GROUP|COMMAND ...]

starts both (VALKEY_SERVER names another binary), ours once for each number of shards. The grammar is what valkey-server's
COMMAND DOCS says of arguments, for every command that both have; below stand only what a word of some name may look like,
and how often a command comes. Work is cut into rounds: a round flushes, sets thresholds of encodings, sends some hundred
commands in pipelines, and then compares the data itself: DEBUG DIGEST, DUMP of every key, and RESTORE of each server's
payloads by the other. Replies in no order are compared as sets, times to live with a tolerance; random ones are checked
against the data. A difference is shrunk to the commands it takes. Exits with 1 if there was any.
"""

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
import time

from compare_commands import Client, start_valkey

ROUND_COMMANDS = 300
BATCH_COMMANDS_MAX = 30
SHOWN_MAX = 12
SHRINK_RUNS_MAX = 150

GROUPS = {"string", "list", "set", "hash", "sorted-set", "geo", "stream", "bitmap", "hyperloglog", "generic"}
# Waits, moves data between servers, tells of time, or describes itself.
LEFT_OUT = {"migrate", "wait", "waitaof", "pfselftest", "pfdebug", "object|freq", "object|idletime", "object|refcount", "lcs",
            "restore-asking", "object|help", "object|encoding", "xinfo|help", "xgroup|help", "dump"}
KEYS = {
    "string": ["t1", "t2", "t3"],
    "list": ["l1", "l2", "l3"],
    "set": ["s1", "s2", "s3", "s{1}"],
    "hash": ["h1", "h2", "h3"],
    "sorted-set": ["z1", "z2", "z3"],
    "geo": ["g1", "g2"],
    "stream": ["x1", "x2"],
    "bitmap": ["b1", "b2", "b3"],
    "hyperloglog": ["p1", "p2", "p3"],
}
KEYS_OF_EQUAL_SCORES = ["y1", "y2"]
ALL_KEYS = [key for keys in KEYS.values() for key in keys]
WEIGHTS = {name: 5 for name in "rpush lpush sadd hset zadd xadd set setbit pfadd geoadd xreadgroup xgroup|create".split()}
WEIGHTS |= {name: 0.3 for name in "del unlink getdel xgroup|destroy rename renamenx move ltrim expireat pexpireat".split()}
WEIGHTS |= {name: 0.4 for name in "lmpop zmpop zremrangebyrank zremrangebylex zremrangebyscore xtrim restore set".split()}

THRESHOLDS = {
    "hash-max-listpack-entries": ["2", "8", "128"],
    "hash-max-listpack-value": ["6", "64"],
    "list-max-listpack-size": ["-2", "-1", "3", "16"],
    "list-compress-depth": ["0", "1"],
    "set-max-intset-entries": ["3", "512"],
    "set-max-listpack-entries": ["4", "128"],
    "set-max-listpack-value": ["6", "64"],
    "zset-max-listpack-entries": ["4", "128"],
    "zset-max-listpack-value": ["6", "64"],
    "stream-node-max-entries": ["3", "100"],
    "hll-sparse-max-bytes": ["100", "3000"],
}

INTEGERS = ["0", "1", "-1", "2", "3", "7", "-3", "10", "100", "9223372036854775807", "-9223372036854775808"]
NOT_INTEGERS = ["", "x", "1.5", "01", "+1", "-0", " 1", "1 ", "9223372036854775808", "-9223372036854775809", "1e3", "-"]
DOUBLES = ["1.5", "-0.1", "3e2", "1e-5", "0x1p3", ".5", "5.", "inf", "-inf", "+inf", "0.1", "1e17", "-1e-17", "0", "2", "3"]
NOT_DOUBLES = ["nan", "1e5000", "", "x", "1 ", " 1", "1,5"]
ELEMENTS = ["a", "b", "c", "d", "e", "1", "2", "3", "4", "5", "-7", "12345", "70000", "-5000000000", "9223372036854775807", ""]
ELEMENTS += ["07", "1.0", "foo", "A", "k\r\n", "\xff\x00", "y" * 7, "z" * 65, "w" * 300]
FIELDS = ["f1", "f2", "f3", "f4", "f5", "f6", "1", "2", "", "v" * 65]
GROUP_NAMES = ["g", "g", "g", "other"]
CONSUMERS = ["ann", "bob", "eve"]
PATTERNS = ["*", "?", "[a-c]", "*1*", "\\", "[^a]", "f*", "", "s1", "?1"]

UNORDERED = {"smembers", "sinter", "sunion", "sdiff", "keys", "hkeys", "hvals"}
SCANS = {"scan", "hscan", "sscan", "zscan"}
RANDOM = {"srandmember": "smembers", "hrandfield": "hgetall", "zrandmember": "zrange", "randomkey": "keys"}
TIMED = {"ttl": 2, "expiretime": 2, "pttl": 3000, "pexpiretime": 3000}
SPECIAL = {"spop", "scan", *RANDOM}


class Pipeline(Client):
    """A connection that sends many commands at once, and knows the types that only RESP3 has."""

    def read(self):
        line = self.file.peek(1)[:1]
        if line == b",":
            return (",", self.file.readline()[1:-2].decode())
        if line == b"#":
            return ("#", self.file.readline()[1:-2].decode())
        if line == b"=":
            return ("=", self.file.read(int(self.file.readline()[1:-2]) + 2)[:-2].decode("latin1"))
        return super().read()

    def ask(self, commands):
        encoded = bytearray()
        for words in commands:
            encoded += b"*%d\r\n" % len(words)
            for word in words:
                encoded += b"$%d\r\n%s\r\n" % (len(word), word.encode("latin1"))
        self.socket.sendall(encoded)
        return [self.read() for _ in commands]


class Grammar:
    """Commands by name, with their arguments, from COMMAND DOCS."""

    def __init__(self, docs, names, blocking, only):
        self.commands = {}
        for name, fields in docs[1]:
            self.add(name, dict(fields[1]), names, blocking, only)
        self.names = sorted(self.commands)
        self.weights = [WEIGHTS.get(name, 1) for name in self.names]
        self.payloads = []
        self.clock = 0

    def add(self, name, fields, names, blocking, only):
        for subcommand, its_fields in fields.get("subcommands", ("%", []))[1]:
            self.add(subcommand, dict(its_fields[1]), names, blocking, only)
        is_wanted = not only or name.split("|")[0] in only or fields["group"] in only
        if fields["group"] not in GROUPS or name not in names or name in blocking or name in LEFT_OUT or not is_wanted:
            return
        if "subcommands" not in fields:
            self.commands[name] = (fields["group"], [dict(arg[1]) for arg in fields.get("arguments", [])])

    def command(self, rng):
        name = rng.choices(self.names, self.weights)[0]
        group, arguments = self.commands[name]
        words = [any_case(rng, word) for word in name.split("|")]
        for argument in arguments:
            words += self.argument(rng, name, group, argument)
        if group == "sorted-set" and (rng.random() < 0.1 or "lex" in name or "bylex" in [word.lower() for word in words]):
            words = self.of_equal_scores(rng, name, words)
        words = settled(name, words)
        if words[0] == "ZADD":
            # What gives a set equal scores stays as it is.
            return words
        damage = rng.random()
        if damage < 0.02 and len(words) > 1:
            words.pop(rng.randrange(1, len(words)))
        elif damage < 0.03:
            words.insert(rng.randrange(1, len(words) + 1), rng.choice(ELEMENTS + INTEGERS + ["NX", "COUNT", "LIMIT"]))
        elif damage < 0.04 and len(words) > 1:
            words[rng.randrange(1, len(words))] = rng.choice(NOT_INTEGERS + ["(1", "[a", "nan"])
        return settled(name, words)

    def of_equal_scores(self, rng, name, words):
        """A range by text is only defined where all scores are equal: such sets have keys of their own."""
        key = rng.choice(KEYS_OF_EQUAL_SCORES)
        if "lex" in name:
            return [words[0], key, *words[2:]]
        if name == "zrange":
            return [words[0], key, *words[2:]]
        if name == "zrangestore":
            return [*words[:2], key, *words[3:]]
        return ["ZADD", key] + [word for _ in range(3) for word in ("0", element(self, rng, name))]

    def argument(self, rng, name, group, argument):
        flags = argument.get("flags", [])
        flags = flags[1] if isinstance(flags, tuple) else flags
        if "optional" in flags and rng.random() < 0.6:
            return []
        # What waits.
        if argument.get("token") == "BLOCK":
            return []
        times = rng.choice([1, 1, 2, 3, 5]) if "multiple" in flags else 1
        words = []
        for time_ in range(times):
            if "token" in argument and argument["type"] != "pure-token" and (time_ == 0 or "multiple_token" in flags):
                words.append(any_case(rng, argument["token"]))
            words += self.value(rng, name, group, argument)
        return words

    def value(self, rng, name, group, argument):
        kind = argument["type"]
        parts = [dict(part[1]) for part in argument.get("arguments", [])]
        if kind == "pure-token":
            return [any_case(rng, argument["token"])]
        if kind == "oneof":
            return self.argument(rng, name, group, rng.choice(parts))
        if kind == "block":
            return [word for part in parts for word in self.argument(rng, name, group, part)]
        if kind == "key":
            return [self.key(rng, name, group, argument["name"])]
        return [self.word(rng, name, argument["name"], kind)]

    def key(self, rng, name, group, argument):
        if rng.random() < 0.06 or group == "generic" and not name.startswith("sort"):
            return rng.choice(ALL_KEYS)
        if name.startswith("sort"):
            group = "list" if argument == "destination" else rng.choice(["list", "set", "sorted-set"])
        return rng.choice(KEYS[group])

    def word(self, rng, name, argument, kind):
        if rng.random() < 0.02:
            return rng.choice(NOT_INTEGERS + NOT_DOUBLES + ["9" * 30])
        choices = WORDS.get((name, argument)) or WORDS.get(argument)
        if callable(choices):
            return choices(self, rng, name)
        if choices:
            return rng.choice(choices)
        return {"integer": small, "double": double, "unix-time": absolute}.get(kind, element)(self, rng, name)


def any_case(rng, word):
    return rng.choice([word, word, word.lower(), word.capitalize()])


def element(_grammar, rng, _name):
    return rng.choice(ELEMENTS) if rng.random() < 0.8 else str(rng.randrange(1000))


def small(_grammar, rng, _name):
    return rng.choice(INTEGERS) if rng.random() < 0.2 else str(rng.randrange(-5, 12))


def count(_grammar, rng, _name):
    return rng.choice(["0", "-1", "-3", "100"]) if rng.random() < 0.2 else str(rng.randrange(1, 8))


def double(_grammar, rng, _name):
    return rng.choice(DOUBLES) if rng.random() < 0.4 else str(rng.randrange(-9, 10))


def bound(_grammar, rng, name):
    """A limit of ZRANGE and its like: by rank, score or text."""
    if "lex" in name:
        return rng.choice(["-", "+", "[a", "(a", "[c", "(d", "[", "(", "[1", "[zz"])
    if "score" in name or name == "zcount":
        return rng.choice(["-inf", "+inf", "inf", "(1", "(3", "0", "2", "-5", "5", "(-2", "(inf"])
    return rng.choice(["0", "-1", "1", "2", "-3", "-inf", "+inf", "(1", "5", "[a", "(c", "-", "+", "3", "100", "-100"])


def relative(_grammar, rng, _name):
    """A time to live: either none at all or long enough not to pass meanwhile."""
    return rng.choice(["100000", "90000000", "5000000", "0", "-1", "9223372036854775807", "9000000000000000"])


def absolute(_grammar, rng, _name):
    return rng.choice(["4000000000", "4000000000000", "99999999999999", "1", "0", "-1", "9223372036854775807"])


def entry_id(grammar, rng, name):
    if name == "xadd":
        grammar.clock += rng.randrange(3)
        return rng.choice([f"{grammar.clock}-{rng.randrange(1, 5)}"] * 6 + [f"{grammar.clock}-*", f"{grammar.clock + 1}", "0-0", "1-1"])
    known = f"{rng.randrange(max(grammar.clock, 1) + 1)}-{rng.randrange(4)}"
    if name == "xread":
        return rng.choice([known, "0", "$", "0-0", "+"])
    if name == "xreadgroup":
        return rng.choice([">", ">", ">", "0", known])
    if name.startswith("xgroup"):
        return rng.choice(["0", "$", known])
    return known


def entry_bound(grammar, rng, name):
    known = str(rng.randrange(max(grammar.clock, 1) + 1))
    return rng.choice(["-", "+", known, f"({known}", f"{known}-1", "0", f"({known}-2"])


def payload(grammar, rng, _name):
    if not grammar.payloads or rng.random() < 0.1:
        return rng.choice(ELEMENTS)
    text = rng.choice(grammar.payloads)
    if rng.random() < 0.15:
        at = rng.randrange(len(text))
        text = text[:at] + chr(rng.randrange(256)) + text[at + 1 :]
    return text


def bit_encoding(_grammar, rng, _name):
    return rng.choice(["u8", "i8", "u1", "i64", "u63", "i5", "u64", "i0", "i65", "x8", "u"])


def bit_offset(_grammar, rng, name):
    choices = [str(rng.randrange(300)), "0", "7", "8", "-1"]
    return rng.choice(choices + (["#1", "#3", "#", "#-1"] if name.startswith("bitfield") else ["4294967296"]))


# By argument, or by command and argument: words, or what makes one.
WORDS = {
    "element": element, "member": element, "member1": element, "member2": element, "value": element, "pivot": element,
    "field": FIELDS, "group": GROUP_NAMES, "consumer": CONSUMERS, "pattern": PATTERNS, "cursor": ["0"],
    "min": bound, "max": bound, ("zrange", "start"): bound, ("zrange", "stop"): bound,
    "id": entry_id, "lastid": entry_id, "last-id": entry_id, "max-deleted-id": entry_id, "threshold": entry_id,
    ("xtrim", "threshold"): lambda grammar, rng, name: rng.choice([count, entry_bound])(grammar, rng, name),
    ("xadd", "threshold"): lambda grammar, rng, name: rng.choice([count, entry_bound])(grammar, rng, name),
    ("xrange", "start"): entry_bound, ("xrange", "end"): entry_bound,
    ("xrevrange", "start"): entry_bound, ("xrevrange", "end"): entry_bound,
    ("xpending", "start"): entry_bound, ("xpending", "end"): entry_bound, ("xautoclaim", "start"): entry_bound,
    "min-idle-time": ["0", "0", "0", "100000000", "-1"], "ms": ["0", "1000", "100000000"],
    # An index near the ends of 64 bits is cut to 32 by LSET there.
    ("lset", "index"): ["0", "1", "-1", "2", "-3", "100", "x"], "count": count, "limit": count, "seconds": relative, "milliseconds": relative, "ttl": ["0", "0", "100000", "-1"],
    "longitude": ["13.361389", "15.087269", "0", "-180", "180", "181", "2.35", "-74"],
    "latitude": ["38.115556", "37.502669", "0", "-85", "85", "86", "48.85", "40.7"],
    "radius": ["200", "1000", "0", "-1", "20000", "1e6"], "width": ["400", "5000"], "height": ["400", "5000"],
    "encoding": bit_encoding, "offset": bit_offset, ("sort", "offset"): small, ("sort_ro", "offset"): small,
    # Below zero, a skiplist of valkey-server 8 counts from the end, a listpack and all of Redis find nothing.
    **{(f"z{name}", "offset"): ["0", "0", "1", "2", "100"] for name in ["range", "rangebylex", "rangebyscore", "rangestore", "revrangebylex", "revrangebyscore"]},
    ("setrange", "offset"): ["0", "1", "5", "100", "3000", "-1", "536870912"],
    ("setbit", "value"): ["0", "1", "1", "2"], ("bitfield", "value"): small, "bit": ["0", "1", "1", "2"],
    "by-pattern": ["nosort", "t*", "h*->f1", "h*->", "*", "#", "x*", "t*->f1", "s*->f1", "h*->1"],
    "get-pattern": ["#", "t*", "h*->f1", "h*->f2", "*", "nokey", "z*", "h*->", "#x"],
    "type": ["string", "list", "hash", "zset", "set", "stream", "HASH", "x"],
    "serialized-value": payload, "frequency": ["0", "255", "256", "-1", "7"], "db": ["0", "1", "15", "16", "-1"],
    "destination-db": ["0", "0", "1", "16", "x"], "score": double, "weight": double, "increment": small,
    ("hincrbyfloat", "increment"): double, ("incrbyfloat", "increment"): double, ("zincrby", "increment"): double,
    "entries-added": ["0", "5", "100", "-1"], "entriesread": ["0", "-1", "-5"],
}


def settled(name, words):
    """Corrects what would be an error nearly always, never end, or have no one result."""
    lower = [word.lower() for word in words]
    if name.split("|")[0] in SCANS:
        at = 1 if name == "scan" else 2
        if len(words) > at and words[at] == "0":
            if "count" in lower[at:-1]:
                words[lower.index("count", at) + 1] = "100000"
            else:
                words = words + ["COUNT", "100000"]
    elif name in NUMKEYS and len(words) > NUMKEYS[name] + 1:
        at = NUMKEYS[name]
        keys = 0
        while at + 1 + keys < len(words) and words[at + 1 + keys] in ALL_KEYS:
            keys += 1
        if words[at].lstrip("-").isdigit() and words[at] != "0":
            words[at] = str(keys)
    elif name in ("xread", "xreadgroup") and "streams" in lower:
        # As many ids as keys.
        at = lower.index("streams") + 1
        keys = [word for word in words[at:] if word in ALL_KEYS]
        ids = [word for word in words[at:] if word not in ALL_KEYS]
        if keys and ids:
            words = words[:at] + keys + (ids * len(keys))[: len(keys)]
        if name == "xreadgroup" and "group" not in lower:
            words[1:1] = ["GROUP", "g", "ann"]
    elif name == "sort" and "store" in lower and "by" in lower:
        # Equal weights keep the order of the source, which is any in a set.
        at = lower.index("store")
        words = words[:at] + words[at + 2 :]
    elif name == "xadd":
        words = [word if word != "*" else "7-*" for word in words]
    return words


NUMKEYS = {"lmpop": 1, "sintercard": 1, "zdiff": 1, "zinter": 1, "zintercard": 1, "zmpop": 1, "zunion": 1}
NUMKEYS |= {"zdiffstore": 2, "zinterstore": 2, "zunionstore": 2}


def same(words, ours, theirs):
    name = words[0].lower()
    if isinstance(ours, tuple) or isinstance(theirs, tuple):
        if (ours[:1] if isinstance(ours, tuple) else None) != (theirs[:1] if isinstance(theirs, tuple) else None):
            return False
    if name in TIMED and isinstance(ours, int) and isinstance(theirs, int) and min(ours, theirs) >= 0:
        return abs(ours - theirs) <= TIMED[name]
    return normal(name, words, ours) == normal(name, words, theirs)


def normal(name, words, reply):
    """A reply without what may differ."""
    lower = [word.lower() for word in words]
    if name in UNORDERED:
        return unordered(reply)
    if name == "hgetall":
        if isinstance(reply, list):
            return sorted(zip(reply[::2], reply[1::2]))
        return unordered(reply)
    if name in SCANS and isinstance(reply, list) and len(reply) == 2:
        if words[1 if name == "scan" else 2] != "0":
            # A cursor that no server gave: what it stands for is each one's own affair.
            return "a page"
        items = reply[1]
        paired = name != "scan" and name != "sscan" and not {"novalues", "noscores"} & set(lower)
        return [reply[0], sorted(zip(items[::2], items[1::2])) if paired else sorted(items)]
    if name in ("sort", "sort_ro") and isinstance(reply, list) and "by" in lower:
        return len(reply) if "limit" in lower else sorted(reply, key=repr)
    if name == "xpending" and isinstance(reply, list) and reply and isinstance(reply[0], list):
        return [[row[0], row[1], row[3]] for row in reply]
    if name == "xinfo":
        return timeless(reply)
    return reply


def unordered(reply):
    if isinstance(reply, list):
        return sorted(reply, key=repr)
    if isinstance(reply, tuple) and len(reply) == 2 and isinstance(reply[1], list):
        return (reply[0], sorted(reply[1], key=repr))
    return reply


TIMES = {"idle", "inactive", "seen-time", "active-time", "radix-tree-nodes", "radix-tree-keys"}


def timeless(reply):
    """XINFO without times and without what only an implementation knows."""
    if isinstance(reply, tuple):
        return (reply[0], [(field, timeless(value)) for field, value in reply[1] if field not in TIMES]) if reply[0] == "%" else reply
    if not isinstance(reply, list):
        return reply
    out, skip = [], False
    for at, value in enumerate(reply):
        if skip or (isinstance(value, str) and value in TIMES):
            skip = not skip
            continue
        # A delivery time, in the list of pending entries.
        if isinstance(value, int) and value > 10**12 and at >= 1:
            continue
        out.append(timeless(value))
    return out


def is_error(reply):
    return isinstance(reply, tuple) and reply[0] == "-"


def flat(reply):
    return reply[1] if isinstance(reply, tuple) and reply[0] in "~%" else reply


# In the order of a table, or compressed: there are several ways.
UNEQUAL_DUMPS = {"hashtable", "skiplist", "stream", "quicklist"}


class Servers:
    """One valkey-server and several of ours, with a connection to each in each protocol."""

    def __init__(self, theirs, ours, protocols):
        self.theirs = {protocol: Pipeline("127.0.0.1", theirs, protocol) for protocol in protocols}
        self.ours = {
            name: {protocol: Pipeline("127.0.0.1", port, protocol) for protocol in protocols} for name, port in ours.items()
        }

    def everyone(self, protocol, *words):
        for connections in [self.theirs, *self.ours.values()]:
            connections[protocol].call(*words)


class Difference(Exception):
    """What differs: a server's name, the command, and both replies."""

    def __init__(self, server, words, ours, theirs):
        super().__init__(server, words, ours, theirs)
        self.server, self.words, self.ours, self.theirs = server, words, ours, theirs


def run_round(servers, grammar, protocol, rng, commands_max, history):
    """Appends what it sends to `history`, and returns how many commands it sent."""
    grammar.clock = 0
    thresholds = [word for name, values in THRESHOLDS.items() for word in (name, rng.choice(values))]
    begin(servers, protocol, thresholds)
    history.append(thresholds)
    sent = 0
    while sent < commands_max:
        batch = [grammar.command(rng) for _ in range(rng.randrange(1, BATCH_COMMANDS_MAX))]
        plain = []
        for words in batch:
            if words[0].lower() not in SPECIAL:
                plain.append(words)
                continue
            run_plain(servers, protocol, plain, history)
            plain = []
            run_random(servers, protocol, words, rng, history)
        run_plain(servers, protocol, plain, history)
        sent += len(batch)
    compare_data(servers, protocol, grammar, history)
    return sent


def begin(servers, protocol, thresholds):
    servers.everyone(protocol, "FLUSHALL")
    for at in range(0, len(thresholds), 2):
        servers.everyone(protocol, "CONFIG", "SET", *thresholds[at : at + 2])


def run_plain(servers, protocol, batch, history):
    if not batch:
        return
    theirs = servers.theirs[protocol].ask(batch)
    ours = {name: connections[protocol].ask(batch) for name, connections in servers.ours.items()}
    for at, words in enumerate(batch):
        history.append(words)
        for name, replies in ours.items():
            if not same(words, replies[at], theirs[at]):
                raise Difference(name, words, replies[at], theirs[at])


def run_random(servers, protocol, words, rng, history):
    """A command with a random reply: an error must be the same, anything else must be possible."""
    name = words[0].lower()
    if name == "spop":
        return run_spop(servers, protocol, words, rng, history)
    if name == "scan":
        return run_scan(servers, protocol, words, history)
    history.append(words)
    theirs = servers.theirs[protocol].call(*words)
    for server, connections in servers.ours.items():
        ours = connections[protocol].call(*words)
        if is_error(theirs) or is_error(ours) or not isinstance(theirs, (list, str)) or not isinstance(ours, (list, str)):
            if ours != theirs:
                raise Difference(server, words, ours, theirs)
            continue
        if type(ours) is not type(theirs) or len(ours) != len(theirs) and isinstance(ours, list):
            raise Difference(server, words, ours, theirs)
        source = RANDOM[name]
        arguments = {"keys": ["*"], "zrange": [words[-1], "0", "-1", "WITHSCORES"]}.get(source, words[1:2])
        if source == "zrange":
            arguments[0] = words[1]
        known = repr(servers.theirs[protocol].call(source, *arguments))
        items = ours if isinstance(ours, list) else [ours]
        items = [part for item in items for part in (item if isinstance(item, list) else [item])]
        if any(repr(item) not in known for item in items):
            raise Difference(server, words, ours, theirs)


def run_spop(servers, protocol, words, rng, history):
    """One of ours pops; all others remove the same members."""
    server = rng.choice(list(servers.ours))
    ours = servers.ours[server][protocol].call(*words)
    if is_error(ours) or len(words) < 2:
        theirs = servers.theirs[protocol].call(*words)
        history.append(words)
        if ours != theirs:
            raise Difference(server, words, ours, theirs)
        return
    popped = flat(ours)
    popped = [popped] if isinstance(popped, str) else popped
    size = servers.theirs[protocol].call("SCARD", words[1])
    if isinstance(popped, tuple) or is_error(size):
        if size != 0 or len(words) > 2:
            raise Difference(server, words, ours, size)
        return
    expected = min(size, int(words[2]) if len(words) > 2 else 1)
    if len(popped) != expected or len(set(popped)) != expected:
        raise Difference(server, words, ours, f"{size} members")
    if not popped:
        return
    remove = ["SREM", words[1], *popped]
    history.append(remove)
    removed = servers.theirs[protocol].call(*remove)
    if removed != len(popped):
        raise Difference(server, words, ours, f"SREM {removed}")
    for other, connections in servers.ours.items():
        if other != server:
            connections[protocol].call(*remove)


def run_scan(servers, protocol, words, history):
    """A walk takes as many steps as there are shards."""
    history.append(words)
    theirs = servers.theirs[protocol].call(*words)
    for server, connections in servers.ours.items():
        ours = connections[protocol].call(*words)
        while isinstance(ours, list) and ours[0] != "0" and theirs[0] == "0":
            cursor, found = connections[protocol].call(words[0], ours[0], *words[2:])
            ours = [cursor, ours[1] + found]
        # A cursor that no server gave out.
        if not is_error(theirs) and not is_error(ours) and (words[1] != "0" or theirs[0] != "0"):
            continue
        if not same(words, ours, theirs):
            raise Difference(server, words, ours, theirs)


def compare_data(servers, protocol, grammar, history):
    """What all the commands have led to."""
    theirs = servers.theirs[protocol]
    keys = sorted(theirs.call("KEYS", "*"))
    # There, SORT makes a skiplist of a sorted set for good.
    has_sorted = any(words[0].lower().startswith("sort") for words in history[1:])
    digest = theirs.call("DEBUG", "DIGEST")
    dumps = theirs.ask([["DUMP", key] for key in keys])
    encodings = theirs.ask([["OBJECT", "ENCODING", key] for key in keys])
    for name, connections in servers.ours.items():
        ours = connections[protocol]
        if ours.call("DEBUG", "DIGEST") != digest:
            for words in [["DEBUG", "DIGEST-VALUE", key] for key in keys] + [["KEYS", "*"]]:
                one, other = ours.call(*words), theirs.call(*words)
                if not same(words, one, other):
                    raise Difference(name, words, one, other)
            raise Difference(name, ["DEBUG", "DIGEST"], ours.call("DEBUG", "DIGEST"), digest)
        for key, their_dump, encoding in zip(keys, dumps, encodings):
            our_encoding = ours.call("OBJECT", "ENCODING", key)
            if has_sorted and {our_encoding, encoding} == {"listpack", "skiplist"}:
                continue
            if our_encoding != encoding:
                raise Difference(name, ["OBJECT", "ENCODING", key], our_encoding, encoding)
            our_dump = ours.call("DUMP", key)
            # Sets that come of tables keep their order.
            is_set = theirs.call("TYPE", key) == ("+", "set")
            if our_dump != their_dump and not is_set and encoding not in UNEQUAL_DUMPS:
                raise Difference(name, ["DUMP", key], our_dump, their_dump)
            of_key = theirs.call("DEBUG", "DIGEST-VALUE", key)
            ttl = "4000000000000" if theirs.call("TTL", key) >= 0 else "0"
            for server, dump in ((theirs, our_dump), (ours, their_dump)):
                restored = server.call("RESTORE", "restored", ttl, dump, "REPLACE", "ABSTTL")
                again = server.call("DEBUG", "DIGEST-VALUE", "restored")
                server.call("DEL", "restored")
                if again != of_key:
                    raise Difference(name, ["RESTORE", key, repr(dump)], (restored, again), of_key)
    grammar.payloads = [dump for dump in dumps if isinstance(dump, str)][:40]


def differs(servers, protocol, server, history, last):
    """Does the last command differ after these?"""
    thresholds, *commands = history
    theirs, ours = servers.theirs[protocol], servers.ours[server][protocol]
    for connection in (theirs, ours):
        connection.call("FLUSHALL")
        connection.ask([["CONFIG", "SET", *thresholds[at : at + 2]] for at in range(0, len(thresholds), 2)])
    for connection in (theirs, ours):
        connection.ask(commands)
    return not same(last, ours.call(*last), theirs.call(*last))


def shrunk(servers, protocol, difference, history):
    """The fewest commands found that still lead to the difference; `None` if it does not happen again."""
    thresholds, *commands = history
    last = difference.words
    if commands and commands[-1] == last:
        commands.pop()
    test = lambda subset: differs(servers, protocol, difference.server, [thresholds, *subset], last)
    if last[0].lower() in SPECIAL or last[0] == "RESTORE" or not test(commands):
        return None
    size, runs = max(len(commands) // 2, 1), 0
    while size >= 1 and commands and runs < SHRINK_RUNS_MAX:
        at, smaller = 0, False
        while at < len(commands) and runs < SHRINK_RUNS_MAX:
            subset = commands[:at] + commands[at + size :]
            runs += 1
            if test(subset):
                commands, smaller = subset, True
            else:
                at += size
        if size == 1 and not smaller:
            break
        size = max(size // 2, 1)
    return commands


def shown(words):
    return " ".join(short(word) for word in words)


def short(value):
    value = repr(value)
    return value if len(value) <= 300 else f"{value[:250]}... ({len(value)} characters)"


def report(servers, protocol, difference, history, seed):
    print(f"\n{difference.server}, RESP{protocol}, round {seed}: {shown(difference.words)}")
    print(f"  ours   {short(difference.ours)}\n  theirs {short(difference.theirs)}")
    commands = shrunk(servers, protocol, difference, history)
    if commands is None:
        key = difference.words[1] if len(difference.words) > 1 else ""
        commands = [words for words in history[1:] if key in words][-8:]
        print("  it takes more than a replay; before it, of the same key:")
    else:
        thresholds = history[0]
        print("  with   " + " ".join(f"{name}={value}" for name, value in zip(thresholds[::2], thresholds[1::2])))
    for words in commands:
        print(f"  after  {shown(words)}")
    sys.stdout.flush()


def lag_after_trim(difference, history):
    """A group behind entries that were trimmed counts on as if it had read none of them in valkey-server up to 8.0; here
    it is as in 8.1, whose suite says so (stream-cgroups.tcl, "Consumer group lag with XTRIM")."""
    if difference.words[0].lower() != "xinfo" or is_error(difference.ours) or is_error(difference.theirs):
        return False
    words = {word.lower() for sent in history[1:] for word in sent}
    moved = words & {"xtrim", "maxlen", "minid", "xdel", "xsetid", "entriesread"}
    return bool(moved) and without_lag(timeless(difference.ours)) == without_lag(timeless(difference.theirs))


def without_lag(reply):
    """XINFO without the counters of groups."""
    if isinstance(reply, tuple) and reply[0] == "%":
        return ("%", [(name, without_lag(value)) for name, value in reply[1] if name not in LAG])
    if isinstance(reply, list):
        return [without_lag(value) for at, value in enumerate(reply) if not {value_or_empty(reply, at), value_or_empty(reply, at - 1)} & LAG]
    return reply


def value_or_empty(reply, at):
    return reply[at] if at >= 0 and isinstance(reply[at], str) else ""


def encoding_by_order(difference, history):
    """A union or difference that is stored begins as an intset and takes members in the order of its sources. Whether
    a text comes before too many integers decides whether it becomes a listpack or a table (Redis, t_set.c,
    sunionDiffGenericCommand and setTypeAddAux), and the order of a table is random."""
    if [word.lower() for word in difference.words[:2]] != ["object", "encoding"]:
        return False
    stores = {sent[0].lower() for sent in history[1:]} & {"sunionstore", "sdiffstore"}
    return bool(stores) and {difference.ours, difference.theirs} == {"listpack", "hashtable"}


LAG = {"entries-read", "lag"}
# Differences that are meant, each with its source; how often each was met is printed.
EXPLAINED = [lag_after_trim, encoding_by_order]


def fuzz(servers, grammar, arguments):
    sent, differences, number = 0, 0, 0
    explained = {known: 0 for known in EXPLAINED}
    while sent < arguments.commands and differences < SHOWN_MAX:
        seed = f"{arguments.seed}:{number}"
        number += 1
        rng = random.Random(seed)
        protocol = rng.choice(arguments.protocols)
        history = []
        try:
            sent += run_round(servers, grammar, protocol, rng, ROUND_COMMANDS, history)
        except Difference as difference:
            sent += len(history)
            known = next((known for known in EXPLAINED if known(difference, history)), None)
            if known:
                explained[known] += 1
                continue
            differences += 1
            report(servers, protocol, difference, history, seed)
    return sent, differences, explained


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def start_ours(binary, shards, directory):
    port = free_port()
    options = ["--port", str(port), "--shards", str(shards), "--save", "", "--dir", directory, "--bind", "127.0.0.1"]
    options += ["--enable-debug-command", "yes"]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process, port
        except OSError:
            time.sleep(0.05)
    process.kill()
    sys.exit(f"{binary} does not answer on port {port}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server-bin", required=True)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--commands", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--protocols", type=int, nargs="+", default=[2, 3], choices=[2, 3])
    parser.add_argument("--only", nargs="+", default=[], help="groups or commands")
    arguments = parser.parse_args()
    processes = []
    with tempfile.TemporaryDirectory() as directory:
        try:
            os.environ["VALKEY_SERVER"] = valkey_with_debug(directory)
            process, theirs = start_valkey(directory)
            processes.append(process)
            ours = {}
            for shards in arguments.shards:
                process, port = start_ours(arguments.server_bin, shards, directory)
                processes.append(process)
                ours[f"{shards} shards"] = port
            servers = Servers(theirs, ours, arguments.protocols)
            grammar = common_grammar(theirs, ours, arguments.only)
            sent, differences, explained = fuzz(servers, grammar, arguments)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    print(f"{sent} commands of {len(grammar.names)} kinds, {differences} rounds differ (seed {arguments.seed})")
    for known, count in explained.items():
        if count:
            print(f"{count} rounds ended at a difference that is meant: {known.__name__}")
    sys.exit(1 if differences else 0)


def valkey_with_debug(directory):
    """DEBUG DIGEST needs an option that `start_valkey` does not give; and our payloads are not compressed."""
    script = os.path.join(directory, "valkey")
    with open(script, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec {os.environ.get("VALKEY_SERVER", "valkey-server")} "$@" --enable-debug-command yes --rdbcompression no\n')
    os.chmod(script, 0o755)
    return script


def common_grammar(theirs, ours, only):
    """Of the commands that both have."""
    client = Pipeline("127.0.0.1", theirs, 3)
    docs, infos = client.call("COMMAND", "DOCS"), client.call("COMMAND")
    names = set(Pipeline("127.0.0.1", next(iter(ours.values())), 3).call("COMMAND", "LIST"))
    names = names & set(client.call("COMMAND", "LIST"))
    blocking = {info[0] for info in infos if "blocking" in [str(flag[1]) if isinstance(flag, tuple) else flag for flag in info[2][1]]}
    return Grammar(docs, names, blocking - {"xread", "xreadgroup"}, only)


if __name__ == "__main__":
    main()
