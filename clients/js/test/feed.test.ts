/** A feed as a live list: what is in it, in which order, and what falls out. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { watchFeed } from "../src/feed.js";
import type { Json } from "../src/values.js";
import { client, entry, FakeSocket, fresh, pass, state, turn, unwatched } from "./fakes.js";

beforeEach(fresh);

const NOW = 1_795_000_000_000;
const listed = (at: number, operation: unknown, title?: unknown): Json =>
  entry("user:7", `${NOW + at}-0`, { operation, title }, "listed");
const asked = () => FakeSocket.last.asked("watch").map(({ operation }) => operation);

async function opened(options = {}) {
  const feed = watchFeed(client(), "user:7", options);
  await turn();
  FakeSocket.last.says(state("user:7"));
  await turn();
  const names = () => feed.operations.map(({ operation }) => operation);
  return { feed, names };
}

test("newest first, with the state of each, over one socket", async () => {
  const { feed, names } = await opened();
  let changes = 0;
  feed.addEventListener("change", () => changes++);
  FakeSocket.last.says(listed(1, "a", "Export"), listed(2, "b"), listed(3, "a"), listed(4, "c", 7));
  await pass(200);
  assert.deepEqual(names(), ["c", "a", "b"]);
  assert.equal(FakeSocket.all.length, 1);
  assert.deepEqual(asked(), ["user:7", "a", "b", "c"]);
  const [watch] = FakeSocket.last.asked("watch").slice(1);
  assert.equal(watch!.history, "none");
  FakeSocket.last.says(state("a"), entry("a", "5-0", { progress: 0.5 }));
  await pass(200);
  const a = feed.operations[1]!;
  assert.deepEqual([a.title, a.listedAt, a.state.progress], ["Export", NOW + 3, 0.5]);
  FakeSocket.last.says(entry("a", "6-0", { title: "A name of its own" }));
  const before = feed.operations;
  await pass(200);
  assert.notEqual(feed.operations, before);
  assert.equal(feed.operations[1]!.title, "A name of its own");
  assert.ok(changes >= 3);
});

test("what has ended falls out after a time, and may be listed again", async () => {
  const { feed, names } = await opened({ keepEndedMs: 5_000 });
  FakeSocket.last.says(listed(1, "a"), listed(2, "b"));
  await pass(200);
  FakeSocket.last.says(state("a"), state("b"), entry("a", `${NOW + 100}-0`, {}, "operation_failed"));
  FakeSocket.last.says(unwatched("a", 1000, "finished"));
  await pass(3_000);
  assert.deepEqual(names(), ["b", "a"]);
  await pass(3_000);
  assert.deepEqual(names(), ["b"]);
  FakeSocket.last.says(listed(9_000, "a"));
  await pass(200);
  assert.deepEqual(names(), ["a", "b"]);
  assert.deepEqual(asked(), ["user:7", "a", "b", "a"]);
  FakeSocket.last.says(state("a"));
  await pass(200);
  assert.equal(feed.operations[0]!.state.status, "running");
});

test("what had ended long before the list was opened is not in it", async () => {
  const { names } = await opened();
  FakeSocket.last.says(listed(-120_000, "old"), listed(-10_000, "new"));
  await pass(200);
  for (const one of ["old", "new"]) FakeSocket.last.says(state(one, "completed"), unwatched(one, 1000, "finished"));
  await pass(200);
  assert.deepEqual(names(), ["new"]);
});

test("there are no more than the limit", async () => {
  const { feed, names } = await opened({ limit: 3 });
  FakeSocket.last.says(...[1, 2, 3, 4, 5].map((n) => listed(n, `op-${n}`)));
  await pass(400);
  assert.deepEqual(names(), ["op-5", "op-4", "op-3"]);
  assert.deepEqual(
    FakeSocket.last.asked("unwatch").map(({ operation }) => operation),
    ["op-1", "op-2"],
  );
  feed.close();
  feed.close();
  await pass(300);
  FakeSocket.last.says(listed(6, "op-6"));
  await pass(300);
  assert.deepEqual(names(), ["op-5", "op-4", "op-3"]);
});

test("entries that list nothing", async () => {
  const { names } = await opened();
  for (const operation of [undefined, 7, null, "", "../x", "x".repeat(129), {}]) FakeSocket.last.says(listed(1, operation));
  FakeSocket.last.says(entry("user:7", `${NOW}-1`, { operation: "a" }, "progress"));
  FakeSocket.last.says({ ...listed(2, "a"), data: null }, { ...listed(3, "a"), data: "a" });
  await pass(200);
  assert.deepEqual([names(), asked()], [[], ["user:7"]]);
});

test("an operation that may not be watched is not in it", async () => {
  const { feed, names } = await opened();
  FakeSocket.last.says(listed(1, "a"), listed(2, "b"));
  await pass(200);
  FakeSocket.last.says({ type: "error", operation: "a", data: { code: "forbidden", message: "no" } }, unwatched("a", 4403, "forbidden"));
  await pass(200);
  assert.deepEqual([names(), feed.failure], [["b"], null]);
});

test("a feed that may not be watched", async () => {
  const feed = watchFeed(client(), "user:7");
  let errors = 0;
  feed.addEventListener("error", () => errors++);
  await turn();
  FakeSocket.last.says(unwatched("user:7", 4403, "forbidden"));
  await pass(200);
  assert.deepEqual([errors, feed.failure?.name], [1, "WatchForbidden"]);
});

test("options that cannot be", () => {
  for (const limit of [0, 101, 1.5, NaN]) assert.throws(() => watchFeed(client(), "user:7", { limit }), { name: "InvalidRequest" });
  assert.throws(() => watchFeed(client(), "user 7"), { name: "InvalidRequest" });
});
