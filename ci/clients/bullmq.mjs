// BullMQ with its default prefix, whose keys share no hash tag, and Bull before it: bullmq.mjs PORT. Started by run.sh.
// Whatever happens to a job, it is done once for each attempt that it has, and none is left behind.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

// From NODE_PATH, which import does not look at.
const require = createRequire(import.meta.url);
const { Queue, Worker, QueueEvents, FlowProducer, UnrecoverableError } = require("bullmq");
const Bull = require("bull");
const Redis = require("ioredis");

const port = Number(process.argv[2]);
const connection = { host: "127.0.0.1", port, maxRetriesPerRequest: null };
const numbers = (count) => Array.from({ length: count }, (_, number) => number);

// Opened in a test, closed after it.
let opened = [];
function open(thing) {
  thing.on?.("error", (error) => failures.push(error));
  opened.push(thing);
  return thing;
}
const failures = [];
const queue = (name, options = {}) => open(new Queue(name, { connection, ...options }));
const worker = (name, processor, options = {}) => open(new Worker(name, processor, { connection, ...options }));
const events = async (name) => {
  const listener = open(new QueueEvents(name, { connection }));
  await listener.waitUntilReady();
  return listener;
};

async function until(what, holds, milliseconds = 15000) {
  const deadline = Date.now() + milliseconds;
  let last;
  while (!(last = await holds())) {
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await sleep(10);
  }
  return last;
}

const finished = (of, count) =>
  until(`${count} jobs of ${of.name} have ended`, async () => (await of.getJobCountByTypes("completed", "failed")) >= count);

/** Counts what a worker does, by job. */
function counted(process = () => null) {
  const done = new Map();
  const processor = async (job, ...rest) => {
    done.set(job.data.number, (done.get(job.data.number) ?? 0) + 1);
    return process(job, ...rest);
  };
  return { done, processor };
}

function onceEach(done, count, times = 1) {
  assert.deepEqual([...done.keys()].sort((a, b) => a - b), numbers(count));
  for (const [number, count] of done) assert.equal(count, times, `job ${number}`);
}

async function isEmpty(of, ended) {
  assert.deepEqual(
    await of.getJobCounts("waiting", "active", "delayed", "prioritized", "waiting-children", "paused", "completed", "failed"),
    { waiting: 0, active: 0, delayed: 0, prioritized: 0, "waiting-children": 0, paused: 0, completed: 0, failed: 0, ...ended },
  );
}

const tests = {
  async "many workers of one queue"() {
    const jobs = queue("plain");
    const listener = await events("plain");
    const completed = new Set();
    listener.on("completed", ({ jobId, returnvalue }) => {
      assert(!completed.has(jobId), `job ${jobId} completed twice`);
      completed.add(jobId);
      assert.equal(typeof returnvalue, "number");
    });
    const { done, processor } = counted(async (job) => job.data.number * 2);
    const workers = numbers(4).map(() => worker("plain", processor, { concurrency: 5 }));
    const added = await Promise.all(numbers(200).map((number) => jobs.add("one", { number })));
    const bulk = await jobs.addBulk(numbers(200).map((number) => ({ name: "bulk", data: { number: 200 + number } })));
    assert.equal(await added[7].waitUntilFinished(listener, 15000), 14);
    await finished(jobs, 400);
    onceEach(done, 400);
    await isEmpty(jobs, { completed: 400 });
    await until("all events are there", () => completed.size === 400);
    assert.deepEqual(completed, new Set([...added, ...bulk].map((job) => job.id)));
    for (const job of await jobs.getCompleted()) assert.equal(job.returnvalue, job.data.number * 2);
    await Promise.all(workers.map((one) => one.close()));
  },

  async "several queues"() {
    const queues = numbers(8).map((number) => queue(`many-${number}`));
    const { done, processor } = counted();
    queues.forEach((one) => worker(one.name, processor, { concurrency: 3 }));
    await Promise.all(numbers(240).map((number) => queues[number % 8].add("job", { number }, { removeOnComplete: true })));
    await until("all are done", async () => done.size === 240 && (await Promise.all(queues.map((one) => one.getActiveCount()))).every((count) => count === 0));
    onceEach(done, 240);
    for (const one of queues) await isEmpty(one, {});
  },

  async "delayed jobs"() {
    const jobs = queue("delayed");
    const early = [];
    const { done, processor } = counted(async (job) => {
      const due = job.timestamp + job.opts.delay;
      if (Date.now() < due - 1) early.push(job.id);
    });
    worker("delayed", processor, { concurrency: 4 });
    await Promise.all(numbers(60).map((number) => jobs.add("later", { number }, { delay: 50 + 10 * (number % 40) })));
    await finished(jobs, 60);
    onceEach(done, 60);
    assert.deepEqual(early, []);
    const far = await jobs.add("never", { number: 0 }, { delay: 1000000 });
    await far.changeDelay(2000000);
    await far.promote();
    await finished(jobs, 61);
    await isEmpty(jobs, { completed: 61 });
  },

  async "priorities"() {
    const jobs = queue("priorities");
    await jobs.pause();
    for (const number of numbers(30)) await jobs.add("job", { number }, { priority: 1 + ((number * 7) % 5) });
    const order = [];
    const { done, processor } = counted(async (job) => order.push(job.opts.priority));
    worker("priorities", processor);
    await sleep(50);
    assert.equal(done.size, 0);
    await jobs.resume();
    await finished(jobs, 30);
    onceEach(done, 30);
    assert.deepEqual(order, [...order].sort((a, b) => a - b));
  },

  async "a rate limit"() {
    const jobs = queue("limited");
    const starts = [];
    const { done, processor } = counted(async () => starts.push(Date.now()));
    for (const _ of [1, 2]) worker("limited", processor, { concurrency: 5, limiter: { max: 10, duration: 300 } });
    await jobs.addBulk(numbers(40).map((number) => ({ name: "job", data: { number } })));
    await finished(jobs, 40);
    onceEach(done, 40);
    starts.sort((a, b) => a - b);
    // Four windows: between the first of the first and the last of the last lie three at least.
    assert(starts.at(-1) - starts[0] >= 850, `40 jobs took ${starts.at(-1) - starts[0]} ms`);
  },

  async "retries with backoff"() {
    const jobs = queue("retries");
    const { done, processor } = counted(async (job) => {
      if (job.data.number % 3 === 1) throw new UnrecoverableError("no more");
      if (job.attemptsMade < 2 || job.data.number % 3 === 2) throw new Error("not yet");
      return job.attemptsMade;
    });
    worker("retries", processor, { concurrency: 5 });
    await Promise.all(numbers(60).map((number) => jobs.add("job", { number }, { attempts: 3, backoff: { type: "exponential", delay: 10 } })));
    await finished(jobs, 60);
    for (const [number, count] of done) assert.equal(count, number % 3 === 1 ? 1 : 3, `job ${number}`);
    await isEmpty(jobs, { completed: 20, failed: 40 });
    for (const job of await jobs.getFailed()) assert.match(job.failedReason, job.data.number % 3 === 1 ? /no more/ : /not yet/);
    await jobs.retryJobs({ state: "failed" });
    await finished(jobs, 60);
    assert.equal(await jobs.getFailedCount(), 40);
  },

  async "flows of parents and children"() {
    const flow = open(new FlowProducer({ connection }));
    const [roots, middles, leaves] = ["flow-roots", "flow-middles", "flow-leaves"].map((name) => queue(name));
    const sum = async (job) => Object.values(await job.getChildrenValues()).reduce((total, value) => total + value, 0);
    const { done, processor } = counted(async (job) => job.data.number);
    worker("flow-leaves", processor, { concurrency: 10 });
    worker("flow-middles", sum, { concurrency: 5 });
    worker("flow-roots", sum, { concurrency: 2 });
    const child = (root, middle) => (leaf) => ({ name: "leaf", queueName: "flow-leaves", data: { number: root * 20 + middle * 5 + leaf } });
    const flows = await flow.addBulk(
      numbers(5).map((root) => ({
        name: "root",
        queueName: "flow-roots",
        data: { root },
        children: numbers(4).map((middle) => ({
          name: "middle",
          queueName: "flow-middles",
          children: numbers(5).map(child(root, middle)),
        })),
      })),
    );
    await finished(roots, 5);
    onceEach(done, 100);
    await isEmpty(leaves, { completed: 100 });
    await isEmpty(middles, { completed: 20 });
    await isEmpty(roots, { completed: 5 });
    for (const { job } of flows) {
      const { data, returnvalue } = await roots.getJob(job.id);
      assert.equal(returnvalue, numbers(20).reduce((total, number) => total + data.root * 20 + number, 0));
      assert.equal(Object.keys((await job.getDependencies()).processed).length, 4);
    }
    // A child that fails takes its parent with it.
    const fails = queue("flow-fails");
    worker("flow-fails", async () => { throw new Error("child"); });
    const broken = await flow.add({
      name: "root",
      queueName: "flow-roots",
      data: { root: 0 },
      children: [{ name: "leaf", queueName: "flow-fails", opts: { failParentOnFailure: true } }],
    });
    await finished(fails, 1);
    await until("the parent fails", () => broken.job.isFailed());
    // And one that is removed with all that hang on it.
    const removed = await flow.add({
      name: "root",
      queueName: "flow-roots",
      data: { root: 0 },
      children: [{ name: "middle", queueName: "flow-unserved", children: [{ name: "leaf", queueName: "flow-unserved" }] }],
    });
    assert.equal(await removed.job.getState(), "waiting-children");
    await removed.job.remove();
    await isEmpty(queue("flow-unserved"), {});
    await isEmpty(roots, { completed: 5, failed: 1 });
  },

  async "what is repeated"() {
    const jobs = queue("repeated");
    const seen = [];
    worker("repeated", async (job) => seen.push([job.id, job.data.text]));
    await jobs.upsertJobScheduler("ticker", { every: 80, limit: 6 }, { name: "tick", data: { text: "tick" } });
    await jobs.upsertJobScheduler("cron", { pattern: "* * * * * *" }, { name: "cron", data: { text: "cron" } });
    await until("both have come", () => seen.filter(([, text]) => text === "tick").length >= 6 && seen.some(([, text]) => text === "cron"));
    assert.equal((await jobs.getJobSchedulers()).some((one) => one.key === "cron"), true);
    assert.equal(await jobs.removeJobScheduler("cron"), true);
    await sleep(200);
    assert.equal(seen.filter(([, text]) => text === "tick").length, 6);
    assert.equal(new Set(seen.map(([id]) => id)).size, seen.length);
    assert.equal(await jobs.getDelayedCount(), 0);
  },

  async "a worker that dies"() {
    const jobs = queue("stalled");
    await jobs.addBulk(numbers(20).map((number) => ({ name: "job", data: { number } })));
    // It takes five and never finishes one of them, nor renews its locks.
    let taken = 0;
    const dead = new Worker("stalled", async () => { taken++; await new Promise(() => {}); }, { connection, concurrency: 5, lockDuration: 400, skipLockRenewal: true, skipStalledCheck: true });
    dead.on("error", () => {});
    await until("it has taken five", () => taken === 5);
    dead.close(true).catch(() => {});
    const { done, processor } = counted();
    const stalled = [];
    worker("stalled", processor, { concurrency: 5, stalledInterval: 200, lockDuration: 2000 }).on("stalled", (id) => stalled.push(id));
    await finished(jobs, 20);
    onceEach(done, 20);
    assert.equal(new Set(stalled).size, 5);
    await isEmpty(jobs, { completed: 20 });
  },

  async "house-keeping"() {
    const jobs = queue("kept");
    const first = await jobs.add("job", { number: 0 }, { jobId: "mine" });
    const second = await jobs.add("job", { number: 1 }, { jobId: "mine" });
    assert.equal(first.id, second.id);
    await first.updateData({ number: 5 });
    await first.updateProgress(50);
    await first.log("a line");
    assert.deepEqual((await jobs.getJobLogs("mine")).logs, ["a line"]);
    const again = await jobs.getJob("mine");
    assert.deepEqual([again.data, again.progress], [{ number: 5 }, 50]);
    const same = await Promise.all(numbers(10).map((number) => jobs.add("job", { number }, { deduplication: { id: "only" } })));
    assert.equal(new Set(same.map((job) => job.id)).size, 1);
    await jobs.addBulk(numbers(50).map((number) => ({ name: "job", data: { number } })));
    assert.equal(await jobs.getWaitingCount(), 52);
    assert.equal((await jobs.clean(0, 10, "wait")).length, 10);
    await jobs.drain();
    await isEmpty(jobs, {});
    await jobs.addBulk(numbers(50).map((number) => ({ name: "job", data: { number }, opts: { delay: 1000 * number } })));
    await jobs.obliterate({ force: true });
    const client = await jobs.client;
    assert.deepEqual((await client.keys("bull:kept:*")).filter((key) => !/:(meta|events)$/.test(key)), []);
  },

  async "Bull, its predecessor"() {
    const jobs = new Bull("classic", { redis: { port } });
    opened.push(jobs);
    const { done, processor } = counted(async (job) => {
      if (job.data.number % 10 === 0 && job.attemptsMade === 0) throw new Error("once");
      return job.data.number;
    });
    jobs.process(10, processor);
    await Promise.all(numbers(100).map((number) => jobs.add({ number }, { attempts: 2, delay: number % 4 ? 0 : 50, priority: number % 5 ? undefined : 2 })));
    await until("all are done", async () => (await jobs.getCompletedCount()) === 100);
    for (const [number, count] of done) assert.equal(count, number % 10 === 0 ? 2 : 1, `job ${number}`);
    assert.deepEqual(await jobs.getJobCounts(), { waiting: 0, active: 0, completed: 100, failed: 0, delayed: 0, paused: 0 });
  },
};

const admin = new Redis(connection);
await admin.flushall();
for (const [name, test] of Object.entries(tests)) {
  const started = Date.now();
  try {
    await test();
    assert.deepEqual(failures, []);
  } catch (error) {
    console.error(`BullMQ: ${name}`);
    throw error;
  }
  await Promise.all(opened.map((thing) => thing.close()));
  opened = [];
  if (process.env.VERBOSE) console.log(`  ${name}: ${Date.now() - started} ms`);
}
await admin.quit();
console.log("BullMQ and Bull work");
// What died keeps its timers.
process.exit(0);
