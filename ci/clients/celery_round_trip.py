#!/usr/bin/env python3
"""Celery, with its broker and its results on the server: celery_round_trip.py PORT. Started by run.sh.

Two workers wait by BRPOP over the keys of several queues and of their priorities; results, chords, retries, revocation and
remote control go through the server as well. Every task counts its runs there: once each, but for those of a worker that
is killed, which are delivered anew.
"""

import os
import subprocess
import sys
import tempfile
import time

import celery
import redis
from celery.result import GroupResult
from kombu import Queue

if __name__ == "__main__":
    # Workers import this module.
    os.environ["CELERY_PORT"] = sys.argv[1]
PORT = int(os.environ["CELERY_PORT"])
QUEUES = ["default", "mail", "images", "reports", "late"]

app = celery.Celery("celery_round_trip", broker=f"redis://127.0.0.1:{PORT}/0", backend=f"redis://127.0.0.1:{PORT}/1")
app.conf.update(
    task_queues=[Queue(name) for name in QUEUES],
    task_default_queue="default",
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3, "queue_order_strategy": "round_robin"},
    result_extended=True,
    worker_hijack_root_logger=False,
)
counts = redis.Redis(port=PORT, db=2, decode_responses=True)


def count(task):
    return counts.hincrby("runs", task.request.id)


@app.task(bind=True)
def add(self, a, b):
    count(self)
    return a + b


@app.task(bind=True)
def total(self, values):
    count(self)
    return sum(values)


@app.task(bind=True, max_retries=3)
def flaky(self, failures):
    if count(self) <= failures:
        raise self.retry(countdown=0)
    return "at last"


@app.task(bind=True)
def fails(self):
    count(self)
    raise ValueError("on purpose")


@app.task(bind=True, acks_late=True)
def late(self, seconds):
    runs = count(self)
    counts.hset("started", self.request.id, self.request.hostname)
    # Its first worker does not come to an end with it.
    time.sleep(seconds if runs == 1 else 0)
    return runs


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"Celery: {what}: {got!r} instead of {wanted!r}")


def runs(*results):
    return [int(counts.hget("runs", result.id) or 0) for result in results]


def until(what, holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"Celery: waited in vain until {what}")
        time.sleep(0.02)


class Worker:
    def __init__(self, name, queues=QUEUES):
        self.log = tempfile.TemporaryFile()
        command = [sys.executable, "-m", "celery", "-A", "celery_round_trip", "worker", "-n", f"{name}@here"]
        command += ["-P", "threads", "-c", "4", "-Q", ",".join(queues), "--without-mingle"]
        here = os.path.dirname(os.path.abspath(__file__))
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, cwd=here)

    def stop(self, kill=False):
        self.process.kill() if kill else self.process.terminate()
        self.process.wait()

    def tail(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-3000:]


def check_queues():
    results = [add.apply_async((number, 1), queue=QUEUES[number % 4], priority=number % 10) for number in range(200)]
    expect("sums", [result.get(timeout=20) for result in results], [number + 1 for number in range(200)])
    expect("runs", runs(*results), [1] * 200)
    broken = fails.delay()
    try:
        broken.get(timeout=20)
        sys.exit("Celery: an error was lost")
    except ValueError as error:
        expect("an error", str(error), "on purpose")
    again = flaky.apply_async((2,), queue="mail")
    expect("retries", (again.get(timeout=20), runs(again)), ("at last", [3]))
    soon = time.time()
    due = add.apply_async((1, 1), countdown=0.5)
    expect("a countdown", (due.get(timeout=20), time.time() - soon >= 0.5), (2, True))


def check_canvas():
    group = celery.group(add.s(number, number).set(queue=QUEUES[number % 4]) for number in range(50))()
    group.save()
    restored = GroupResult.restore(group.id)
    expect("a group", restored.get(timeout=20), [2 * number for number in range(50)])
    chain = (add.s(1, 2) | add.s(3).set(queue="images") | add.s(4)).apply_async()
    expect("a chain", chain.get(timeout=20), 10)
    # Their ends are counted on the server, and the last one starts the body.
    chords = [celery.chord((add.s(number, other) for other in range(20)), total.s())() for number in range(10)]
    expect("chords", [chord.get(timeout=20) for chord in chords], [20 * number + 190 for number in range(10)])
    expect("runs of chords", runs(*chords), [1] * 10)
    body = celery.chord([add.s(1, 1), fails.s()], total.s())()
    ended = body.get(timeout=20, propagate=False)
    expect("a chord that lacks a task", (type(ended), runs(body)), (celery.exceptions.ChordError, [0]))


def check_control():
    expect("ping", sorted(app.control.inspect(timeout=2).ping() or {}), ["one@here", "two@here"])
    revoked = add.apply_async((1, 1), countdown=2)
    until("the task is reserved", lambda: any(app.control.inspect(timeout=1).scheduled().values()))
    revoked.revoke()
    try:
        revoked.get(timeout=20)
        sys.exit("Celery: a task ran that was revoked")
    except celery.exceptions.TaskRevokedError:
        expect("runs", runs(revoked), [0])
    unserved = [add.apply_async((1, 1), queue="unserved") for _ in range(20)]
    with app.connection_or_acquire() as connection:
        expect("purge", connection.default_channel.queue_purge("unserved"), len(unserved))


def check_death(one, two):
    """A task of a worker that dies is run by another one when its time is over: it is moved under a lock."""
    results = [late.apply_async((60,), queue="late") for _ in range(4)]
    until("they run", lambda: len(counts.hgetall("started")) == 4)
    one.stop(kill=True)
    two.stop(kill=True)
    time.sleep(3.5)
    three = Worker("three")
    try:
        expect("what was delivered anew", [result.get(timeout=30) for result in results], [2] * 4)
        broker = redis.Redis(port=PORT)
        until("all is acknowledged", lambda: not broker.exists("unacked", "unacked_index"))
        expect("messages left", [broker.llen(name) for name in QUEUES], [0] * len(QUEUES))
    except BaseException:
        print(three.tail())
        raise
    finally:
        three.stop(kill=True)


def main():
    redis.Redis(port=PORT).flushall()
    one, two = Worker("one"), Worker("two")
    try:
        until("the workers are there", lambda: len(app.control.inspect(timeout=0.5).ping() or {}) == 2, 40)
        check_queues()
        check_canvas()
        check_control()
        check_death(one, two)
    except BaseException:
        print(one.tail(), two.tail())
        raise
    finally:
        one.stop(kill=True)
        two.stop(kill=True)
    print("Celery", celery.__version__, "works")


if __name__ == "__main__":
    main()
