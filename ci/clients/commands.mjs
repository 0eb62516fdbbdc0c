// Every command of commands.txt by ioredis: commands.mjs PORT ORACLE_PORT. Started by run.sh.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// From NODE_PATH, which import does not look at.
const require = createRequire(import.meta.url);
const Redis = require("ioredis");
const [ours, theirs] = process.argv.slice(2, 4).map((port) => new Redis({ port: Number(port) }));

function parse(line) {
  const mark = "~?".includes(line[0]) ? line[0] : "";
  const [text, wanted] = line.slice(mark.length).trim().split(" => ");
  const words = text.split(/ +/).map(unescaped);
  return { mark, words, wanted: wanted === undefined ? undefined : JSON.parse(wanted) };
}

// A word in quotes holds bytes as `\xff`.
function unescaped(word) {
  if (!word.startsWith('"')) return word;
  const text = word.slice(1, -1).replace(/\\x(..)/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(text, "latin1");
}

async function run(client, [name, ...args]) {
  const method = name.toLowerCase();
  try {
    return typeof client[method] === "function" ? await client[method](...args) : await client.call(name, ...args);
  } catch (error) {
    return String(error);
  }
}

function unordered(reply) {
  if (Array.isArray(reply)) return reply.map(unordered).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  if (reply && typeof reply === "object") return unordered(Object.entries(reply));
  return reply;
}

// How many nodes the tree of the other server has is its own affair.
function withoutNodes(reply) {
  const at = Array.isArray(reply) ? reply.indexOf("radix-tree-nodes") : -1;
  return at < 0 ? reply : reply.filter((_, index) => index !== at + 1);
}

const names = new Set((await ours.call("COMMAND", "LIST")).map((name) => name.toLowerCase()));
let count = 0;
for (const line of readFileSync(new URL("commands.txt", import.meta.url), "utf8").split("\n")) {
  if (!line || line.startsWith("#")) continue;
  const { mark, words, wanted } = parse(line);
  if (!names.has(words[0].toLowerCase())) continue;
  const got = await run(ours, words);
  const oracle = wanted === undefined ? await run(theirs, words) : wanted;
  if (mark === "?") assert.equal(typeof got, typeof oracle, line);
  else if (mark === "~") assert.deepEqual(unordered(got), unordered(oracle), line);
  else assert.deepEqual(withoutNodes(got), withoutNodes(oracle), line);
  count += 1;
}
await Promise.all([ours.quit(), theirs.quit()]);
console.log(`ioredis: ${count} round trips of commands`);
