// node export.mjs OPERATION [ROWS]   exports rows, while browsers watch how far it is.
// REDIS_URL says where Redis or Valkey is; exit code 3: a viewer has cancelled it.
import { setTimeout as sleep } from "node:timers/promises";
import Redis from "ioredis";
import { Cancelled, runOperation } from "./operation.mjs";

const [id, rows = "500"] = process.argv.slice(2);
const total = Number(rows);
if (!id || !(total >= 1)) {
  console.error("usage: node export.mjs OPERATION [ROWS]");
  process.exit(2);
}
const redis = new Redis(process.env.REDIS_URL ?? "redis://127.0.0.1:6379");

try {
  await runOperation(redis, id, "Export", async ({ progress, throwIfCancelled }) => {
    for (let row = 1; row <= total; row++) {
      await throwIfCancelled();
      await sleep(10); // the work
      await progress(row, total, `row ${row}`);
    }
    return { rows: total };
  });
} catch (error) {
  if (!(error instanceof Cancelled)) throw error;
  process.exitCode = 3;
} finally {
  await redis.quit();
}
