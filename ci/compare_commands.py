#!/usr/bin/env python3
"""Compares what two servers say about their commands: COMMAND INFO, DOCS, LIST and GETKEYS, in RESP2 and RESP3.

    ci/compare_commands.py HOST:PORT [--password PASSWORD]

starts a valkey-server on a free port (VALKEY_SERVER names another binary) and asks both. Everything is compared byte by
byte but the order of commands and subcommands, which is a hash table's, and summary and complexity, which are our own
words. Exits with 1 if anything differs, and lists it.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time

# Names that Valkey 8 has and Redis 7.2, whose commands are ours, has not.
ONLY_IN_VALKEY = {
    "cluster|slot-stats": "new in Valkey 8.0",
}

# Whole groups that topics still to come bring; a name of theirs may be missing, what is there is compared.
LATER_GROUPS = {
}

# Fields that expire: Redis 7.4 and 8.0 have them, the other server has not.
ONLY_OURS = {
    "hexpire",
    "hexpireat",
    "hexpiretime",
    "hgetdel",
    "hgetex",
    "hpersist",
    "hpexpire",
    "hpexpireat",
    "hpexpiretime",
    "hpttl",
    "hsetex",
    "httl",
}

# Single commands that topics still to come bring; a container's name stands for its subcommands too.
LATER = {
    "acl|log": "users",
    "failover": "replication",
    "migrate": "cluster",
    "module|load": "modules, which we do not load",
    "module|loadex": "modules, which we do not load",
    "module|unload": "modules, which we do not load",
    "restore-asking": "cluster",
}

# What Valkey 8.1 has added to commands, and we with it, is left out if the valkey-server at hand is older.
NEWER = "8.1.0"

# Commands for COMMAND GETKEYS; "" is an empty word.
KEYS = """
get k | set k v | set k v get | set k v ex 10 get | set k v EX get | getex k ex 1 | append k v | mget a b c | mset a 1 b 2
mset a 1 b | msetnx a 1 b 2 | del a b | exists a b a | unlink a | touch a b | lcs a b | lcs a b idx | rename a b
renamenx a b | copy a b db 2 replace | move a 1 | dump a | restore a 0 x | object encoding a | object freq a | object help
memory usage a | memory usage a samples 5 | memory doctor | sort k | sort k store d | sort k store
sort k by w_* get # get d_* limit 0 1 store d | sort k get store store d | sort k by store | sort k store a store b
sort_ro k by x get y | migrate h 1 k 0 100 | migrate h 1 k 0 100 copy replace | migrate h 1 k 0 100 keys a b
migrate h 1 "" 0 100 keys a b | migrate h 1 "" 0 100 auth keys keys a b | migrate h 1 "" 0 100 auth2 keys keys keys a
migrate h 1 "" 0 100 keys | eval s 0 | eval s 1 a | eval s 2 a b c | eval s 3 a b | eval s x a | eval s -1 a
eval s 99999999999999999999 a | eval s 9223372036854775807 a | eval_ro s 1 a | evalsha s 1 a | evalsha_ro s 1 a
fcall f 1 a | fcall_ro f 1 a | fcall f 0 | xread streams a 0 | xread count 1 block 2 streams a b 0 0 | xread streams a b 0
xread count 1 noack a 0 | xread streams streams 0 | xreadgroup group g c streams a 0
xreadgroup group g c count 1 noack streams a b > > | xreadgroup group streams c streams a 0
georadius k 1 2 3 m | georadius k 1 2 3 m store d | georadius k 1 2 3 m withdist storedist d | georadius k 1 2 3 m store
georadiusbymember k m 3 m store d | georadiusbymember k m 3 m count 1 storedist d | georadius_ro k 1 2 3 m
bitfield k | bitfield k get u8 0 | bitfield k get u8 0 set u8 0 1 | bitfield k overflow sat incrby u8 0 1
bitfield k get u8 | bitfield k overflow wrap get u8 0 | bitfield k overflow | bitfield k nonsense | bitfield_ro k get u8 0
zunionstore d 2 a b | zunionstore d 2 a b weights 1 2 | zunionstore d 0 a | zunionstore d x a | zunionstore d 3 a b
zinter 2 a b | zinter 2 a | zdiff 1 a withscores | zunion 1 a | zintercard 2 a b limit 1 | sintercard 1 a | lmpop 1 a left
zmpop 2 a b min count 3 | blmpop 0 1 a left | bzmpop 0 2 a b max | blpop a b 0 | brpop a 0 | blmove a b left right 0
lmove a b left right | rpoplpush a b | brpoplpush a b 0 | bzpopmin a b 1 | smove a b m | sinter a b | sunionstore d a b
pfcount a b | pfmerge d a b | bitop and d a b | bitop not d | geosearchstore d s frommember m | zrangestore d s 0 1
xgroup create k g $ | xinfo stream k | xadd k * f v | watch a b | hset h f v | ping | config get a | config | config nosuch
xread count 1 streams | xreadgroup count 1 group g streams streams k >
config|get a | spublish c m | ssubscribe c | subscribe c | publish c m | nosuch a | get | get a b | object
object encoding | object encoding a b | command getkeys get a
"""


class Client:
    """A connection. Replies keep their type: status, error, null, maps and sets are tuples that begin with a mark."""

    def __init__(self, host, port, protocol, password=None):
        self.socket = socket.create_connection((host, port), timeout=20)
        self.file = self.socket.makefile("rb")
        self.call("HELLO", str(protocol), *(["AUTH", "default", password] if password else []))

    def call(self, *words):
        out = b"*%d\r\n" % len(words)
        for word in words:
            word = word.encode("latin1")
            out += b"$%d\r\n%s\r\n" % (len(word), word)
        self.socket.sendall(out)
        return self.read()

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the server closed the connection")
        kind, rest = line[:1], line[1:-2].decode("latin1")
        if kind in b"+-":
            return (kind.decode(), rest)
        if kind == b":":
            return int(rest)
        if kind == b"_" or (kind in b"$*" and rest == "-1"):
            return (kind.decode() + rest,)
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2].decode("latin1")
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        if kind == b"~":
            return ("~", [self.read() for _ in range(int(rest))])
        if kind == b"%":
            return ("%", [(self.read(), self.read()) for _ in range(int(rest))])
        raise ValueError(f"unexpected reply {line!r}")


def start_valkey(directory):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    binary = os.environ.get("VALKEY_SERVER", "valkey-server")
    options = ["--port", str(port), "--save", "", "--appendonly", "no", "--dir", directory, "--bind", "127.0.0.1"]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process, port
        except OSError:
            time.sleep(0.05)
    process.kill()
    sys.exit(f"{binary} does not answer on port {port}")


def pairs(reply):
    """The fields of a map, which is a flat array in RESP2."""
    return reply[1] if isinstance(reply, tuple) else list(zip(reply[::2], reply[1::2]))


def elements(reply):
    """The elements of a set, which is an array in RESP2."""
    return reply[1] if isinstance(reply, tuple) else reply


def info_by_name(info):
    """COMMAND's reply, flat: name -> all that is said of it but its subcommands."""
    known = {}
    for command in info:
        known[command[0]] = command[:9] + [("subcommands?", bool(elements(command[9])))]
        known.update(info_by_name(elements(command[9])))
    return known


def docs_by_name(docs):
    known = {}
    for name, fields in pairs(docs):
        known[name] = []
        for field, value in pairs(fields):
            if field == "subcommands":
                known.update(docs_by_name(value))
            elif field in ("summary", "complexity"):
                known[name].append((field, "" if value else value))
            elif elements(without_news(value)):
                known[name].append((field, without_news(value)))
    return known


def without_news(value):
    """Leaves out the arguments and the history of versions newer than the other server."""
    if isinstance(value, (list, tuple)):
        return type(value)(without_news(part) for part in value if not is_news(part))
    return value


def is_news(part):
    if isinstance(part, list) and len(part) == 2 and part[0] == NEWER:
        return True
    is_argument = (isinstance(part, tuple) and part[0] == "%") or (isinstance(part, list) and part[:1] == ["name"])
    return is_argument and ("since", NEWER) in pairs(part)


def compare(what, ours, theirs, differences):
    if ours != theirs:
        differences.append(f"{what}\n    ours   {ours}\n    valkey {theirs}")


def compare_names(ours, theirs, groups, differences):
    for name in sorted(theirs - ours):
        names = {name, name.split("|")[0]}
        if not names & (ONLY_IN_VALKEY.keys() | LATER.keys()) and groups[name] not in LATER_GROUPS:
            differences.append(f"{name} is missing")
    for name in sorted((ONLY_IN_VALKEY.keys() | LATER.keys()) & ours):
        differences.append(f"{name} is there, but listed as missing")
    for name in sorted(ours - theirs - ONLY_OURS):
        differences.append(f"{name} is ours alone")


def compare_servers(ours, theirs, differences):
    our_info, their_info = (info_by_name(client.call("COMMAND")) for client in (ours, theirs))
    our_docs, their_docs = (docs_by_name(client.call("COMMAND", "DOCS")) for client in (ours, theirs))
    groups = {name: dict(fields)["group"] for name, fields in their_docs.items()}
    compare_names(set(our_info), set(their_info), groups, differences)
    common = sorted(our_info.keys() & their_info.keys())
    for name in common:
        compare(f"COMMAND INFO {name}", our_info[name], their_info[name], differences)
        compare(f"COMMAND DOCS {name}", our_docs.get(name), their_docs[name], differences)
    plain = ["INFO get nosuch config|GET get|key config|get|key", "DOCS nosuch", "HELP", "LIST x", "LIST FILTERBY ACLCAT"]
    for words in plain:
        our, their = (client.call("COMMAND", *words.split()) for client in (ours, theirs))
        compare(f"COMMAND {words}", our, their, differences)
    filters = ["PATTERN GE*", "PATTERN cl*help", "MODULE m"]
    filters += [f"ACLCAT {category}" for category in ("read", "DANGEROUS", "@read", "nosuch")]
    for words in [""] + [f"FILTERBY {words}" for words in filters]:
        lists = (client.call("COMMAND", "LIST", *words.split()) for client in (ours, theirs))
        our, their = (sorted(name for name in names if name in common) for names in lists)
        compare(f"COMMAND LIST {words}", our, their, differences)
    for case in KEYS.replace("\n", " | ").strip(" |").split(" | "):
        words = ["" if word == '""' else word for word in case.split()]
        if words[0] in their_info and words[0] not in our_info:
            continue
        for subcommand in ("GETKEYS", "GETKEYSANDFLAGS"):
            our, their = (client.call("COMMAND", subcommand, *words) for client in (ours, theirs))
            compare(f"COMMAND {subcommand} {case}", our, their, differences)
    return len(common)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("address", help="HOST:PORT of our server")
    parser.add_argument("--password")
    arguments = parser.parse_args()
    host, port = arguments.address.rsplit(":", 1)
    differences = []
    with tempfile.TemporaryDirectory() as directory:
        valkey, valkey_port = start_valkey(directory)
        try:
            for protocol in (2, 3):
                ours = Client(host, int(port), protocol, arguments.password)
                theirs = Client("127.0.0.1", valkey_port, protocol)
                found = []
                compared = compare_servers(ours, theirs, found)
                differences += [f"RESP{protocol}: {difference}" for difference in found]
        finally:
            valkey.terminate()
            valkey.wait()
    print("\n".join(differences))
    print(f"{compared} commands and subcommands compared, {len(differences)} differences")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
