#!/usr/bin/env python3
"""What Python programs use the server by: Django's cache, redis-py's Lock, RQ. python_libraries.py PORT. Started by run.sh."""

import sys
import threading
import time

import django
import redis
import rq
from django.conf import settings
from django.core.cache import caches
from redis.exceptions import LockError, LockNotOwnedError

PORT = int(sys.argv[1])


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got!r} instead of {wanted!r}")


def check_django():
    backend = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"redis://127.0.0.1:{PORT}/3"}
    settings.configure(CACHES={"default": backend, "versioned": {**backend, "VERSION": 2, "KEY_PREFIX": "app"}}, USE_TZ=True)
    django.setup()
    cache, versioned = caches["default"], caches["versioned"]
    cache.clear()
    many = {f"many:{number}": {"number": number, "text": "é" * number} for number in range(100)}
    # One MULTI with an MSET and an EXPIRE for each key.
    expect("set_many", cache.set_many(many, timeout=100), [])
    expect("get_many", cache.get_many([*many, "missing"]), many)
    client = redis.Redis(port=PORT, db=3)
    expect("times to live", {client.ttl(cache.make_key(key)) in (99, 100) for key in many}, {True})
    expect("set_many without a timeout", cache.set_many({"a": 1, "b": 2}, timeout=None), [])
    expect("no time to live", client.ttl(cache.make_key("a")), -1)
    expect("set_many that deletes", (cache.set_many({"a": 1, "b": 2}, timeout=0), cache.get_many(["a", "b"])), ([], {}))
    expect("delete_many", (cache.delete_many(list(many)[:60]), len(cache.get_many(many))), (None, 40))
    expect("add", [cache.add("once", 1), cache.add("once", 2), cache.get("once")], [True, False, 1])
    expect("incr and decr", [cache.incr("once"), cache.incr("once", 5), cache.decr("once", 3)], [2, 7, 4])
    try:
        cache.incr("missing")
        sys.exit("incr of a key that is missing was no error")
    except ValueError:
        pass
    expect("get_or_set", [cache.get_or_set("made", lambda: "value", 100), cache.get("made")], ["value", "value"])
    expect("touch", [cache.touch("made", 500), client.ttl(cache.make_key("made")) > 400, cache.touch("missing")], [True, True, False])
    expect("touch without a timeout", [cache.touch("made", None), client.ttl(cache.make_key("made"))], [True, -1])
    expect("has_key and delete", ["made" in cache, cache.delete("made"), cache.delete("made"), "made" in cache], [True, True, False, False])
    cache.set("short", 1, timeout=1)
    expect("before it expires", cache.get("short"), 1)
    versioned.set("key", "two")
    versioned.set("key", "three", version=3)
    expect("versions", [versioned.get("key"), versioned.get("key", version=3), cache.get("key")], ["two", "three", None])
    expect("incr_version", [versioned.incr_version("key"), versioned.get("key"), versioned.get("key", version=3)], [3, None, "two"])
    time.sleep(1.1)
    expect("after it has expired", cache.get("short", "default"), "default")

    # What several threads set together is seen together.
    def writer(number):
        for round in range(30):
            cache.set_many({f"together:{key}": (number, round) for key in range(20)}, timeout=100)

    torn = []

    def reader():
        while any(thread.is_alive() for thread in writers):
            values = cache.get_many([f"together:{key}" for key in range(20)])
            if len(set(values.values())) > 1 or len(values) not in (0, 20):
                torn.append(values)

    writers = [threading.Thread(target=writer, args=(number,)) for number in range(4)]
    threads = [*writers, *(threading.Thread(target=reader) for _ in range(2))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    expect("sets that were seen by halves", torn, [])
    expect("clear", [cache.clear(), client.dbsize()], [True, 0])
    print("Django's cache", django.__version__, "works")


def check_lock():
    client = redis.Redis(port=PORT, db=4)
    client.flushdb()

    def worker(name):
        for _ in range(25):
            with client.lock(name, timeout=10, sleep=0.002):
                value = int(client.get(f"{name}:counter") or 0)
                client.set(f"{name}:counter", value + 1)

    threads = [threading.Thread(target=worker, args=(f"lock:{number % 4}",)) for number in range(16)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    expect("counters under a lock", [int(client.get(f"lock:{number}:counter")) for number in range(4)], [100] * 4)
    lock, other = client.lock("mine", timeout=1), client.lock("mine", timeout=1)
    expect("acquire", [lock.acquire(), other.acquire(blocking=False), lock.locked(), lock.owned(), other.owned()], [True, False, True, True, False])
    expect("extend and reacquire", [lock.extend(5), client.pttl("mine") > 5000, lock.reacquire(), client.pttl("mine") <= 1000], [True] * 4)
    client.set("mine", "stolen")
    try:
        lock.release()
        sys.exit("a lock was released that was another's")
    except LockNotOwnedError:
        pass
    try:
        other.release()
        sys.exit("a lock was released that was not held")
    except LockError:
        pass
    print("redis-py's Lock works")


def check_rq():
    connection = redis.Redis(port=PORT, db=5)
    connection.flushdb()
    queues = [rq.Queue(name, connection=connection) for name in ("high", "low")]
    jobs = [queues[number % 2].enqueue("math.sqrt", -number if number % 10 == 9 else number**2) for number in range(60)]
    last = queues[1].enqueue("math.sqrt", 10000, depends_on=[job for number, job in enumerate(jobs) if number % 10 != 9])
    rq.SimpleWorker(queues, connection=connection).work(burst=True, logging_level="CRITICAL")
    for number, job in enumerate([*jobs]):
        expect("a job's end", (job.get_status(), job.return_value()), ("failed", None) if number % 10 == 9 else ("finished", number))
    expect("a job that depended on them", (last.get_status(), last.return_value()), ("finished", 100))
    expect("registries", [(queue.count, len(queue.finished_job_registry), len(queue.failed_job_registry)) for queue in queues], [(0, 30, 0), (0, 25, 6)])
    print("RQ", rq.__version__, "works")


check_django()
check_lock()
check_rq()
