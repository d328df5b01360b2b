// A minimal Socket.IO server: reads the streams of all operations, and hands each entry to its room.
// node server.mjs <folder of node_modules> <port> <redis url> <operations>
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [modules, port, redisUrl, count] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { Server } = require("socket.io");
const { Redis } = require("ioredis");

const PREFIX = "operation-progress:";
const names = Array.from({ length: Number(count) }, (_, n) => `bench-${String(n).padStart(5, "0")}`);
const http = createServer((_, answer) => answer.end("ready"));
const io = new Server(http, { cors: { origin: "*" }, serveClient: false });
const redis = new Redis(redisUrl);
const message = ([, fields]) => JSON.parse(fields[fields.indexOf("message") + 1]);

io.on("connection", (socket) => {
  socket.on("join", async (operation) => {
    const [last] = await redis.xrevrange(PREFIX + operation, "+", "-", "COUNT", 1);
    socket.join(operation);
    if (last) socket.emit("update", operation, message(last));
  });
});

async function read() {
  const blocked = new Redis(redisUrl);
  const last = new Map();
  for (const name of names) {
    const [entry] = await redis.xrevrange(PREFIX + name, "+", "-", "COUNT", 1);
    last.set(PREFIX + name, entry ? entry[0] : "0-0");
  }
  http.listen(Number(port), "127.0.0.1");
  for (;;) {
    const found = await blocked.xread("COUNT", 100, "BLOCK", 0, "STREAMS", ...last.keys(), ...last.values());
    for (const [key, entries] of found ?? []) {
      const operation = key.slice(PREFIX.length);
      for (const entry of entries) io.to(operation).emit("update", operation, message(entry));
      last.set(key, entries.at(-1)[0]);
    }
  }
}
await read();
