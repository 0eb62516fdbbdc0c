// Adds jobs to a BullMQ queue and processes them: bullmq.mjs PORT JOBS PREFIX. Started by benches/compare.
// All at once: 64 jobs are being added at any time while four workers take up to 16 each; what is done is counted.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

// From NODE_PATH, which import does not look at.
const require = createRequire(import.meta.url);
const { Queue, Worker } = require("bullmq");

const [port, jobs] = process.argv.slice(2, 4).map(Number);
const options = { connection: { host: "127.0.0.1", port, maxRetriesPerRequest: null }, prefix: process.argv[4] };
const queue = new Queue("work", options);

let done = 0;
let allDone;
const finished = new Promise((resolve) => { allDone = resolve; });
const workers = Array.from({ length: 4 }, () => new Worker(queue.name, async (job) => job.data.number * 2, { ...options, concurrency: 16 }));
for (const worker of workers) {
  worker.on("completed", () => { if (++done === jobs) allDone(); });
}

let added = 0;
const add = async () => {
  while (added < jobs) {
    const number = added++;
    await queue.add("job", { number, text: "x".repeat(100) });
  }
};
await Promise.all(Array.from({ length: 64 }, add));
await finished;
assert.equal(await queue.getCompletedCount(), jobs);
await Promise.all(workers.map((worker) => worker.close()));
await queue.obliterate({ force: true });
await queue.close();
