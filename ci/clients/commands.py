#!/usr/bin/env python3
"""Every command of commands.txt by redis-py, in both protocols: commands.py PORT ORACLE_PORT. Started by run.sh."""

import json
import os
import sys

import redis

PORT, ORACLE_PORT = int(sys.argv[1]), int(sys.argv[2])
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "commands.txt")
GROUPS = {"list", "set", "hash", "sorted-set", "geo", "stream", "bitmap", "hyperloglog", "generic"}
CONTAINERS = {"OBJECT", "XINFO", "XGROUP", "COMMAND"}
# Talk to other servers, or wait for them.
LEFT_OUT = {"migrate", "wait", "waitaof", "restore-asking"}


def lines():
    for line in open(FILE, encoding="utf-8"):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        mark = line[0] if line[0] in "~?" else ""
        text, _, wanted = line[len(mark) :].strip().partition(" => ")
        yield mark, [unescaped(word) for word in text.split()], json.loads(wanted) if wanted else None, bool(wanted)


def unescaped(word):
    """A word in quotes holds bytes as `\\xff`."""
    if word.startswith('"') and word.endswith('"'):
        return word[1:-1].encode().decode("unicode_escape").encode("latin1")
    return word


def run(client, words):
    # As redis-py's own methods do: a container and its subcommand are one name.
    name = [" ".join(words[:2]), *words[2:]] if words[0] in CONTAINERS else words
    try:
        return client.execute_command(*name, **options(words))
    except redis.ResponseError as error:
        return f"{type(error).__name__}: {error}"


def options(words):
    """What redis-py's methods tell the parser of the reply."""
    found = {}
    if words[0] == "XPENDING" and len(words) > 3:
        found["parse_detail"] = True
    if words[:2] == ["XINFO", "STREAM"] and "FULL" in words:
        found["full"] = True
    if "JUSTID" in words:
        found["parse_justid"] = True
    if words[0].startswith(("GEOSEARCH", "GEORADIUS")):
        found |= {word.lower(): word in words for word in ("WITHDIST", "WITHCOORD", "WITHHASH")}
    if words[0].startswith("Z") and ("WITHSCORES" in words or "WITHSCORE" in words):
        found |= {"withscores": True, "withscore": True}
    return found


def unordered(reply):
    if isinstance(reply, dict):
        return unordered(list(reply.items()))
    if isinstance(reply, (list, tuple, set)):
        return sorted((unordered(item) for item in reply), key=repr)
    return reply


def same(mark, words, ours, theirs):
    if mark == "?":
        return type(ours) is type(theirs)
    if words[:2] == ["XINFO", "STREAM"] and isinstance(ours, dict):
        # How many nodes the tree of the other server has is its own affair.
        return {**ours, "radix-tree-nodes": 0} == {**theirs, "radix-tree-nodes": 0}
    return unordered(ours) == unordered(theirs) if mark == "~" else ours == theirs


def known(client):
    """Names of the server's commands, and of those that have to be tried."""
    docs = client.execute_command("COMMAND DOCS")
    docs = docs if isinstance(docs, dict) else dict(zip(docs[::2], docs[1::2]))
    tried = set()
    for name, fields in docs.items():
        fields = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2]))
        if fields["group"] in GROUPS and name not in LEFT_OUT:
            subcommands = fields.get("subcommands", [])
            tried.update(subcommands if isinstance(subcommands, dict) else subcommands[::2])
            tried.update([] if subcommands else [name])
    return set(docs), tried


def compare(protocol):
    client = redis.Redis(port=PORT, protocol=protocol, decode_responses=True, encoding_errors="replace")
    oracle = redis.Redis(port=ORACLE_PORT, protocol=protocol, decode_responses=True, encoding_errors="replace")
    names, untried = known(client)
    count, failures = 0, 0
    for mark, words, wanted, has_wanted in lines():
        if words[0].lower() not in names:
            continue
        untried.discard("|".join(words[:2]).lower() if words[0] in CONTAINERS else words[0].lower())
        ours, theirs = run(client, words), wanted if has_wanted else run(oracle, words)
        count += 1
        if not same(mark, words, ours, theirs):
            failures += 1
            print(f"RESP{protocol} {words}: {ours!r} instead of {theirs!r}")
    if untried:
        print(f"not in commands.txt: {sorted(untried)}")
    if failures or untried:
        sys.exit(1)
    return count


counts = [compare(protocol) for protocol in (2, 3)]
print(f"redis-py: {counts[0]} round trips of commands in each protocol")
