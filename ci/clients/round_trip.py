#!/usr/bin/env python3
"""redis-py, sync and async, in both protocols: round_trip.py PORT. Started by run.sh."""

import asyncio
import sys
import time

import redis
import redis.asyncio

try:
    from redis.cache import CacheConfig
    from redis.connection import CacheProxyConnection

    # It asks for Redis 7.4 by its number, and uses nothing that came after 6.0.
    CacheProxyConnection.MIN_ALLOWED_VERSION = "7.2.0"
except ImportError:
    # Before redis-py 5.1.
    CacheConfig = None

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


def publish(protocol):
    """Subscribers on any shards, of a channel and by pattern; then what happens to a key."""
    client = redis.Redis(port=PORT, protocol=protocol, decode_responses=True)
    listeners = [redis.Redis(port=PORT, protocol=protocol, decode_responses=True).pubsub() for _ in range(8)]
    for listener in listeners:
        listener.subscribe("news")
        listener.psubscribe("weather:*")
        expect("SUBSCRIBE", listener.get_message(timeout=5)["type"], "subscribe")
        expect("PSUBSCRIBE", listener.get_message(timeout=5)["type"], "psubscribe")
    expect("PUBLISH", [client.publish("news", "hi"), client.publish("weather:here", "rain")], [8, 8])
    expect("PUBSUB NUMSUB", client.pubsub_numsub("news"), [("news", 8)])
    for listener in listeners:
        got = [listener.get_message(timeout=5) for _ in range(2)]
        expect("messages", [(one["type"], one["channel"], one["data"]) for one in got], MESSAGES)
    listeners[0].unsubscribe()
    expect("UNSUBSCRIBE", listeners[0].get_message(timeout=5)["type"], "unsubscribe")
    expect("PUBLISH", client.publish("news", "ho"), 7)
    client.config_set("notify-keyspace-events", "KEA")
    listeners[0].psubscribe("__keyspace@0__:told*")
    expect("PSUBSCRIBE", listeners[0].get_message(timeout=5)["type"], "psubscribe")
    client.set("told:1", "v", ex=100)
    client.delete("told:1")
    expect("events", [listeners[0].get_message(timeout=5)["data"] for _ in range(3)], ["set", "expire", "del"])
    client.config_set("notify-keyspace-events", "")
    for listener in listeners:
        listener.close()


MESSAGES = [("message", "news", "hi"), ("pmessage", "weather:here", "rain")]


def cache():
    """Client-side caching: what others write is seen soon, and nothing is asked for twice."""
    client = redis.Redis(port=PORT, protocol=3, decode_responses=True, cache_config=CacheConfig())
    writer = redis.Redis(port=PORT, decode_responses=True)
    keys = [f"cached:{n}" for n in range(20)]

    def settle(what, wanted):
        # A message about a key is on its way when the writer has its reply, and not yet with every client.
        deadline = time.monotonic() + 5
        while (got := [client.get(key) for key in keys]) != wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        expect(what, got, wanted)

    for round in range(3):
        values = [f"{key}={round}" for key in keys]
        for key, value in zip(keys, values):
            writer.set(key, value)
        settle("values that were written", values)
        asked = writer.info("commandstats")["cmdstat_get"]["calls"]
        expect("copies", [client.get(key) for key in keys], values)
        expect("GETs for copies", writer.info("commandstats")["cmdstat_get"]["calls"] - asked, 0)
    writer.flushall()
    settle("copies after FLUSHALL", [None] * len(keys))
    client.close()


async def concurrent(protocol):
    client = redis.asyncio.Redis(port=PORT, protocol=protocol)
    await client.delete("counter")
    numbers = await asyncio.gather(*(client.incr("counter") for _ in range(200)))
    expect("concurrent INCR", sorted(numbers), list(range(1, 201)))
    await client.aclose()


for protocol in (2, 3):
    sync(protocol)
    publish(protocol)
    asyncio.run(concurrent(protocol))
if CacheConfig:
    cache()
print("redis-py", redis.__version__, "works")
