// Socket.IO's adapters over publish/subscribe, plain and sharded, by ioredis and node-redis: socket_io.mjs PORT. Started
// by run.sh. Two servers share rooms; what one of them sends reaches the clients of both, each once.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

// From NODE_PATH, which import does not look at.
const require = createRequire(import.meta.url);
const { Server } = require("socket.io");
const { io: connect } = require("socket.io-client");
const { createAdapter, createShardedAdapter } = require("@socket.io/redis-adapter");
const Redis = require("ioredis");
const { createClient } = require("redis");

const port = Number(process.argv[2]);
const SERVERS = 2;
const CLIENTS = 6;

async function until(what, holds) {
  const deadline = Date.now() + 10000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await sleep(10);
  }
}

const byIoredis = async () => {
  const client = new Redis({ port });
  return { client, close: () => client.quit() };
};
const byNodeRedis = async () => {
  const client = createClient({ url: `redis://127.0.0.1:${port}` });
  await client.connect();
  return { client, close: () => client.close() };
};

async function check(makeAdapter, makeClient) {
  const clients = [];
  const client = async () => {
    const made = await makeClient();
    clients.push(made);
    return made.client;
  };
  const servers = [];
  for (let number = 0; number < SERVERS; number++) {
    const http = createServer();
    const server = new Server(http, { adapter: makeAdapter(await client(), await client()) });
    server.on("connection", (socket) => {
      socket.on("join", (room, joined) => { socket.join(room); joined(); });
      socket.on("to room", (room, text) => socket.to(room).emit("text", text));
      socket.on("ask", (answer) => answer(`server ${number}`));
    });
    server.on("question", (text, answer) => answer(`${text} ${number}`));
    await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
    servers.push({ server, http });
  }
  const [one, two] = servers.map(({ server }) => server);
  await until("the servers know of each other", async () => (await one.of("/").adapter.serverCount()) === SERVERS);

  const sockets = await Promise.all(
    Array.from({ length: CLIENTS }, async (_, number) => {
      const { http } = servers[number % SERVERS];
      const socket = connect(`http://127.0.0.1:${http.address().port}`, { transports: ["websocket"], forceNew: true });
      socket.got = [];
      socket.on("text", (text) => socket.got.push(text));
      socket.on("answer?", (answer) => answer(number));
      await new Promise((resolve, reject) => { socket.on("connect", resolve); socket.on("connect_error", reject); });
      await socket.emitWithAck("join", number < 4 ? "low" : "high");
      return socket;
    }),
  );
  const everybody = (pick = () => true) => Array.from({ length: CLIENTS }, (_, number) => number).filter(pick);
  /** Who got what, once each, and nothing else. */
  const got = async (what, expected) => {
    await until(`${what} has come`, () => sockets.every((socket, number) => socket.got.length >= expected[number].length));
    await sleep(20);
    assert.deepEqual(sockets.map((socket) => socket.got), expected, what);
    for (const socket of sockets) socket.got.length = 0;
  };

  for (let number = 0; number < 50; number++) one.emit("text", number);
  await got("a broadcast", everybody().map(() => Array.from({ length: 50 }, (_, number) => number)));
  one.to("low").emit("text", "for low");
  two.to("high").emit("text", Buffer.from([0, 13, 10, 255]));
  await got("what was for rooms", everybody().map((number) => [number < 4 ? "for low" : Buffer.from([0, 13, 10, 255])]));
  sockets[0].emit("to room", "low", "from 0");
  await got("a client's own message", everybody().map((number) => (number > 0 && number < 4 ? ["from 0"] : [])));
  one.except("low").emit("text", "not low");
  await got("all but a room", everybody().map((number) => (number < 4 ? [] : ["not low"])));
  one.local.emit("text", "local");
  await got("local ones", everybody().map((number) => (number % SERVERS === 0 ? ["local"] : [])));

  const ids = (list) => list.map((socket) => socket.id).sort();
  assert.deepEqual(ids(await two.fetchSockets()), ids(sockets), "fetchSockets");
  assert.deepEqual(ids(await one.in("high").fetchSockets()), ids(sockets.slice(4)), "fetchSockets of a room");
  assert.deepEqual((await one.timeout(5000).emitWithAck("answer?")).sort(), everybody(), "broadcast with answers");
  assert.deepEqual(await one.serverSideEmitWithAck("question", "who are you?"), ["who are you? 1"], "serverSideEmit");
  await one.in("low").socketsJoin("both");
  await two.in("high").socketsJoin("both");
  await until("all are in the room", async () => (await one.in("both").fetchSockets()).length === CLIENTS);
  two.in("both").socketsLeave("low");
  await until("all have left", async () => (await two.in("low").fetchSockets()).length === 0);
  one.to("both").emit("text", "both");
  await got("a room of all", everybody().map(() => ["both"]));
  one.in("high").disconnectSockets(true);
  await until("they are disconnected", () => sockets[4].disconnected && sockets[5].disconnected);
  assert.deepEqual(ids(await two.fetchSockets()), ids(sockets.slice(0, 4)), "who is left");

  for (const socket of sockets) socket.close();
  for (const { server } of servers) await server.close();
  for (const { close } of clients) await close();
}

const adapters = {
  plain: (publisher, subscriber) => createAdapter(publisher, subscriber, { requestsTimeout: 5000 }),
  sharded: (publisher, subscriber) => createShardedAdapter(publisher, subscriber),
  "sharded, a channel for each room": (publisher, subscriber) => createShardedAdapter(publisher, subscriber, { subscriptionMode: "dynamic-private" }),
};
for (const [adapter, makeAdapter] of Object.entries(adapters)) {
  for (const [library, makeClient] of Object.entries({ ioredis: byIoredis, "node-redis": byNodeRedis })) {
    try {
      await check(makeAdapter, makeClient);
    } catch (error) {
      console.error(`Socket.IO: the adapter ${adapter}, by ${library}`);
      throw error;
    }
  }
}
console.log("Socket.IO works");
process.exit(0);
