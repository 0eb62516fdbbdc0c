// ioredis, and node-redis in both protocols: round_trip.mjs PORT. Started by run.sh.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

// From NODE_PATH, which import does not look at.
const require = createRequire(import.meta.url);
const port = Number(process.argv[2]);
const many = Object.fromEntries(Array.from({ length: 50 }, (_, n) => [`many:${n}`, String(n)]));

const Redis = require("ioredis");
const io = new Redis({ port, connectionName: "io" });
await io.flushall();
assert.equal(await io.set("key", "value", "EX", 100), "OK");
assert.equal(await io.get("key"), "value");
assert.equal(await io.mset(many), "OK");
assert.deepEqual(await io.mget(Object.keys(many)), Object.values(many));
const pipeline = io.pipeline();
for (let n = 0; n < 1000; n++) pipeline.incr(`counter:${n % 7}`);
assert.deepEqual((await pipeline.exec()).map(([error, number]) => error ?? number), Array.from({ length: 1000 }, (_, n) => Math.floor(n / 7) + 1));
await assert.rejects(io.incr("key"), /ERR value is not an integer or out of range/);
assert.match(await io.client("LIST"), /name=io /);
await io.quit();
console.log("ioredis works");

const { createClient } = require("redis");
for (const RESP of [2, 3]) {
  const client = createClient({ url: `redis://127.0.0.1:${port}`, RESP, name: "node" });
  await client.connect();
  await client.flushAll();
  assert.equal(await client.set("key", "value", { EX: 100 }), "OK");
  assert.equal(await client.get("key"), "value");
  assert.equal(await client.mSet(many), "OK");
  assert.deepEqual(await client.mGet(Object.keys(many)), Object.values(many));
  const numbers = await Promise.all(Array.from({ length: 200 }, () => client.incr("counter")));
  assert.deepEqual(numbers, Array.from({ length: 200 }, (_, n) => n + 1));
  let seen = 0;
  for await (const keys of client.scanIterator({ MATCH: "many:*" })) seen += keys.length;
  assert.equal(seen, 50);
  assert.equal((await client.clientInfo()).name, "node");
  await client.close();
}
console.log("node-redis works");
