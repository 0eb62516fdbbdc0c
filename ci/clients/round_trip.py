#!/usr/bin/env python3
"""redis-py, sync and async, in both protocols: round_trip.py PORT. Started by run.sh."""

import asyncio
import sys

import redis
import redis.asyncio

PORT = int(sys.argv[1])


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got!r} instead of {wanted!r}")


def sync(protocol):
    client = redis.Redis(port=PORT, protocol=protocol, client_name="round-trip", decode_responses=True)
    client.flushall()
    expect("PING", client.ping(), True)
    expect("SET", client.set("key", "value", ex=100), True)
    expect("GET and TTL", (client.get("key"), client.ttl("key")), ("value", 100))
    # Keys on several shards.
    many = {f"many:{n}": str(n) for n in range(50)}
    expect("MSET", client.mset(many), True)
    expect("MGET", client.mget(list(many)), list(many.values()))
    expect("SCAN", sorted(client.scan_iter("many:*", count=7)), sorted(many))
    expect("DBSIZE", client.dbsize(), 51)
    pipeline = client.pipeline(transaction=False)
    for n in range(1000):
        pipeline.incr(f"counter:{n % 7}")
    expect("pipeline", pipeline.execute(), [n // 7 + 1 for n in range(1000)])
    try:
        client.incr("key")
    except redis.ResponseError as error:
        expect("an error", str(error), "value is not an integer or out of range")
    else:
        sys.exit("INCR of a text was no error")
    expect("INFO", client.info("server")["redis_version"], "7.2.4")
    mine = client.client_info()
    expect("CLIENT INFO", (mine["name"], mine["resp"], mine["lib-name"]), ("round-trip", str(protocol), "redis-py"))
    expect("CLIENT LIST", str(mine["id"]) in [str(listed["id"]) for listed in client.client_list()], True)
    expect("COMMAND", client.command()["get"]["arity"], 2)
    expect("ACL", client.acl_whoami(), "default")
    client.close()


async def concurrent(protocol):
    client = redis.asyncio.Redis(port=PORT, protocol=protocol)
    await client.delete("counter")
    numbers = await asyncio.gather(*(client.incr("counter") for _ in range(200)))
    expect("concurrent INCR", sorted(numbers), list(range(1, 201)))
    await client.aclose()


for protocol in (2, 3):
    sync(protocol)
    asyncio.run(concurrent(protocol))
print("redis-py", redis.__version__, "works")
