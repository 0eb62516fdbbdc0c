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

# Names that Valkey has and we do not, yet or ever: whole commands, or `container|subcommand`.
ONLY_IN_VALKEY = {
    # name: reason
}

# What Valkey 8.1 has added to a command that we know too, and a Valkey 8.0 does not show.
NEWER_THAN_8_0 = {"8.1.0"}

# Commands whose keys depend on the words: (words, ...). The rest is generated from the key specs by the server itself.
KEYS = """
get k | set k v | set k v get | set k v ex 10 get | set k v EX get | getex k ex 1 | append k v | mget a b c | mset a 1 b 2
mset a 1 b | msetnx a 1 b 2 | del a b | exists a b a | unlink a | touch a b | lcs a b | lcs a b idx | rename a b | renamenx a b
copy a b db 2 replace | move a 1 | dump a | restore a 0 x | object encoding a | object freq a | object help | memory usage a
memory usage a samples 5 | memory doctor | sort k | sort k store d | sort k by w_* get # get d_* limit 0 1 store d
sort k get store store d | sort k by store | sort k store a store b | sort k store | sort_ro k by x get y
migrate h 1 k 0 100 | migrate h 1 k 0 100 copy replace | migrate h 1 k 0 100 keys a b | migrate h 1 "" 0 100 keys a b
migrate h 1 "" 0 100 auth keys keys a b | migrate h 1 "" 0 100 auth2 keys keys keys a | migrate h 1 "" 0 100 keys
eval s 0 | eval s 1 a | eval s 2 a b c | eval s 3 a b | eval s x a | eval s -1 a | eval s 99999999999999999999 a
eval s 9223372036854775807 a | eval_ro s 1 a | evalsha s 1 a | evalsha_ro s 1 a | fcall f 1 a | fcall_ro f 1 a | fcall f 0
xread streams a 0 | xread count 1 block 2 streams a b 0 0 | xread streams a b 0 | xread count 1 noack a 0 | xread streams streams 0
xreadgroup group g c streams a 0 | xreadgroup group g c count 1 noack streams a b > > | xreadgroup group streams c streams a 0
georadius k 1 2 3 m | georadius k 1 2 3 m store d | georadius k 1 2 3 m withdist storedist d | georadius k 1 2 3 m store
georadiusbymember k m 3 m store d | georadiusbymember k m 3 m count 1 storedist d | georadius_ro k 1 2 3 m
bitfield k | bitfield k get u8 0 | bitfield k get u8 0 set u8 0 1 | bitfield k overflow sat incrby u8 0 1 | bitfield k get u8
bitfield k overflow wrap get u8 0 | bitfield k overflow | bitfield k nonsense | bitfield_ro k get u8 0
zunionstore d 2 a b | zunionstore d 2 a b weights 1 2 | zunionstore d 0 a | zunionstore d x a | zunionstore d 3 a b
zinter 2 a b | zinter 2 a | zdiff 1 a withscores | zunion 1 a | zintercard 2 a b limit 1 | sintercard 1 a | lmpop 1 a left
zmpop 2 a b min count 3 | blmpop 0 1 a left | bzmpop 0 2 a b max | blpop a b 0 | brpop a 0 | blmove a b left right 0
lmove a b left right | rpoplpush a b | brpoplpush a b 0 | bzpopmin a b 1 | smove a b m | sinter a b | sunionstore d a b | pfcount a b
pfmerge d a b | bitop and d a b | bitop not d | geosearchstore d s frommember m | zrangestore d s 0 1 | xgroup create k g $
xinfo stream k | xadd k * f v | ping | config get a | spublish c m | ssubscribe c | subscribe c | publish c m | nosuch a | get | get a b
config | config nosuch | config|get a | object | object encoding | object encoding a b | command getkeys get a | watch a b | hset h f v
""".replace("\n", "|").split("|")
KEYS = " | ".join(KEYS).split(" | ")


class Client:
    """A connection; replies stay comparable: maps become dicts, sets become sorted lists marked as sets."""

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
            elif without_news(value) != [] or value == []:
                known[name].append((field, without_news(value)))
    return known


def without_news(value):
    """Leaves out arguments and history of versions that the other server does not have yet."""
    if isinstance(value, (list, tuple)):
        kept = [without_news(part) for part in value if not is_news(part)]
        return type(value)(kept)
    return value


def is_news(part):
    if isinstance(part, list) and len(part) == 2 and part[0] in list(NEWER_THAN_8_0):
        return True
    is_argument = (isinstance(part, tuple) and part[0] == "%") or (isinstance(part, list) and part[:1] == ["name"])
    return is_argument and any(field == ("since", version) for field in pairs(part) for version in NEWER_THAN_8_0)


def compare(what, ours, theirs, differences):
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name] != theirs[name]:
            differences.append(f"{what} {name}\n    ours   {ours[name]}\n    valkey {theirs[name]}")


def compare_names(ours, theirs, differences):
    for name in sorted(theirs - ours):
        if name not in ONLY_IN_VALKEY and name.split("|")[0] not in ONLY_IN_VALKEY:
            differences.append(f"{name} is missing")
    for name in sorted(ONLY_IN_VALKEY.keys() & ours):
        differences.append(f"{name} is there, but listed as only in Valkey")


def compare_keys(ours, theirs, known, differences):
    for case in filter(None, (case.strip() for case in KEYS)):
        words = ["" if word == '""' else word for word in case.split()]
        if words[0].split("|")[0] not in known and words[0] != "nosuch":
            continue
        for subcommand in ("GETKEYS", "GETKEYSANDFLAGS"):
            our, their = (client.call("COMMAND", subcommand, *words) for client in (ours, theirs))
            if our != their:
                differences.append(f"COMMAND {subcommand} {case}\n    ours   {our}\n    valkey {their}")


def compare_servers(ours, theirs, differences):
    our_info, their_info = (info_by_name(client.call("COMMAND")) for client in (ours, theirs))
    compare_names(set(our_info), set(their_info), differences)
    compare("COMMAND INFO", our_info, their_info, differences)
    our_docs, their_docs = (docs_by_name(client.call("COMMAND", "DOCS")) for client in (ours, theirs))
    compare("COMMAND DOCS", our_docs, their_docs, differences)
    common = our_info.keys() & their_info.keys()
    for words in (["INFO", "get", "nosuch", "config|GET", "get|key", "config|get|key", ""], ["DOCS", "nosuch"]):
        our, their = (client.call("COMMAND", *words) for client in (ours, theirs))
        if words[0] == "INFO":
            # With subcommands in their servers' order, whole containers cannot be compared here.
            assert "config" not in words
        if our != their:
            differences.append(f"COMMAND {' '.join(words)}\n    ours   {our}\n    valkey {their}")
    filters = [[], ["FILTERBY", "PATTERN", "GE*"], ["FILTERBY", "PATTERN", "cl*help"], ["FILTERBY", "MODULE", "m"], ["x"]]
    filters += [["FILTERBY", "ACLCAT", category] for category in ("read", "DANGEROUS", "@read", "nosuch")]
    filters += [["filterby", "aclcat"], ["FILTERBY", "nosuch", "x"]]
    for words in filters:
        our, their = (client.call("COMMAND", "LIST", *words) for client in (ours, theirs))
        if isinstance(our, list) and isinstance(their, list):
            our, their = (sorted(name for name in names if name in common) for names in (our, their))
        if our != their:
            differences.append(f"COMMAND LIST {' '.join(words)}\n    ours   {our}\n    valkey {their}")
    compare_keys(ours, theirs, our_info, differences)
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
