/** The composables under Vue 3: changing ids and scopes that end leave no watch behind. */

import "./dom.js";

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { createApp, effectScope, nextTick, ref } from "vue";

import { tidegate, useOperation, useOperations } from "../src/vue.js";
import { client, entry, FakeSocket, fresh, pass, state } from "./fakes.js";

beforeEach(fresh);

function scope<T>(setup: () => T): { value: T; stop: () => void } {
  const app = createApp({});
  app.use(tidegate, client());
  const effects = effectScope();
  return { value: app.runWithContext(() => effects.run(setup)!), stop: () => effects.stop() };
}

test("a ref follows the state", async () => {
  const { value, stop } = scope(() => useOperation("1"));
  await pass(20);
  FakeSocket.last.says(state("1"), entry("1", "1-0", { progress: 0.25 }));
  await pass(20);
  assert.deepEqual([value.value.status, value.value.progress], ["running", 0.25]);
  stop();
  await pass(300);
  assert.deepEqual(FakeSocket.last.asked("unwatch"), [{ type: "unwatch", operation: "1" }]);
  assert.equal(FakeSocket.last.closedWith, 1000);
});

test("an id that changes, and none", async () => {
  const id = ref<string | null>("1");
  const { value } = scope(() => useOperation(id));
  await pass(20);
  FakeSocket.last.says(state("1", "queued"));
  await pass(20);
  assert.equal(value.value.status, "queued");
  id.value = "2";
  await nextTick();
  await pass(300);
  assert.equal(value.value.status, "unknown");
  assert.deepEqual(FakeSocket.last.asked("unwatch"), [{ type: "unwatch", operation: "1" }]);
  id.value = null;
  await nextTick();
  await pass(300);
  assert.equal(FakeSocket.last.closedWith, 1000);
});

test("a list that grows and shrinks keeps what stays", async () => {
  const ids = ref(["1", "2"]);
  const { value } = scope(() => useOperations(ids));
  await pass(20);
  FakeSocket.last.says(state("2", "queued"));
  ids.value = ["2", "3"];
  await nextTick();
  await pass(300);
  assert.deepEqual([...value.value].map(([id, { status }]) => `${id}:${status}`), ["2:queued", "3:unknown"]);
  assert.equal(FakeSocket.last.asked("watch").filter(({ operation }) => operation === "2").length, 1);
});
