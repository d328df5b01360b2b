/** One operation, published with ioredis: start, progress, cancellation, and the end. */

const PREFIX = "operation-progress:";
const KEEP_ENTRIES = 1000;
const KEEP_S = 86_400;
const PROGRESS_EVERY_MS = 200;
const LOOK_EVERY_MS = 1000;

/** A viewer has asked to cancel the operation. */
export class Cancelled extends Error {}

/** Runs `work(operation)`; viewers see its start, its progress, and how it ended. */
export async function runOperation(redis, id, title, work) {
  const key = PREFIX + id;
  let shownAt = -Infinity;
  let lookedAt = -Infinity;

  const publish = (type, data) =>
    redis.xadd(key, "MAXLEN", "~", KEEP_ENTRIES, "*", "message", JSON.stringify({ type, data }));

  /** As often as you like: a few of them a second are published, and the last one always. */
  async function progress(current, total, message) {
    if (current < total && performance.now() - shownAt < PROGRESS_EVERY_MS) return;
    shownAt = performance.now();
    await publish("progress", { current, total, message });
  }

  /** Throws `Cancelled` if a viewer has asked for it; asks Redis once a second. */
  async function throwIfCancelled() {
    if (performance.now() - lookedAt < LOOK_EVERY_MS) return;
    lookedAt = performance.now();
    if (await redis.exists(`{${key}}:cancel`)) throw new Cancelled(id);
  }

  await publish("operation_started", { status: "running", title });
  try {
    const result = await work({ publish, progress, throwIfCancelled });
    await publish("operation_completed", { status: "completed", result });
    return result;
  } catch (error) {
    if (error instanceof Cancelled) await publish("operation_cancelled", { status: "cancelled" });
    // Its name only: all viewers see it, and the text may have what they must not.
    else await publish("operation_failed", { status: "failed", error: error.name });
    throw error;
  } finally {
    await redis.multi().unlink(`{${key}}:cancel`).expire(key, KEEP_S).exec();
  }
}
