/** The hooks under React 19: StrictMode, changing ids and unmounting leave no watch behind. */

import { page } from "./dom.js";

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { act, createElement as h, type ReactNode, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";

import { TidegateProvider, useOperation, useOperations } from "../src/react.js";
import { client, entry, FakeSocket, fresh, pass, state, turn, unwatched } from "./fakes.js";

beforeEach(fresh);

function mount() {
  const root = page.createElement("div");
  const tidegate = client();
  const react = createRoot(root);
  const draw = (node: ReactNode) =>
    act(async () => react.render(h(StrictMode, null, h(TidegateProvider, { client: tidegate }, node))));
  return { root, draw, leave: () => act(async () => react.unmount()), tidegate };
}

const settle = (ms = 20) => act(async () => pass(ms, 20));

function Bar({ id }: { id: string | null }) {
  const { status, progress, connection } = useOperation(id);
  return h("p", null, `${status} ${progress} ${connection}`);
}

test("a component shows the state, and changes with it", async () => {
  const { root, draw } = mount();
  await draw(h(Bar, { id: "1" }));
  await settle();
  assert.equal(root.textContent, "unknown null connecting");
  assert.equal(FakeSocket.last.asked("watch").length, 1, "StrictMode mounts twice, and watches once");
  FakeSocket.last.says(state("1"), entry("1", "1-0", { progress: 0.5 }));
  await settle();
  assert.equal(root.textContent, "running 0.5 live");
  FakeSocket.last.says(entry("1", "2-0", {}, "operation_completed"), unwatched("1", 1000, "finished"));
  await settle();
  assert.equal(root.textContent, "completed 1 ended");
});

test("another id, and none", async () => {
  const { root, draw, leave } = mount();
  await draw(h(Bar, { id: "1" }));
  await settle();
  FakeSocket.last.says(state("1", "queued"));
  await draw(h(Bar, { id: "2" }));
  await settle(300);
  assert.deepEqual(FakeSocket.last.asked("unwatch"), [{ type: "unwatch", operation: "1" }]);
  assert.equal(root.textContent, "unknown null connecting");
  FakeSocket.last.says(state("2"));
  await settle();
  assert.equal(root.textContent, "running null live");
  await draw(h(Bar, { id: null }));
  await settle(300);
  assert.equal(root.textContent, "unknown null connecting");
  assert.equal(FakeSocket.last.closedWith, 1000);
  await leave();
});

test("200 mounts and unmounts leave no watch", async () => {
  const { draw, leave } = mount();
  for (let i = 0; i < 200; i++) await draw(h(Bar, { id: `op-${i % 7}`, key: i }));
  await settle(500);
  await leave();
  await settle(500);
  const { sent } = FakeSocket.last;
  const [asked, left] = ["watch", "unwatch"].map((type) => sent.filter((message) => message.type === type).length);
  assert.ok(asked! >= 7);
  assert.equal(asked, left);
  assert.equal(FakeSocket.last.closedWith, 1000);
});

test("two components on one operation are one watch", async () => {
  const { root, draw } = mount();
  await draw([h(Bar, { id: "1", key: 1 }), h(Bar, { id: "1", key: 2 })]);
  await settle();
  FakeSocket.last.says(state("1", "packing"));
  await settle();
  assert.equal(FakeSocket.last.asked("watch").length, 1);
  assert.equal(root.textContent, "packing null livepacking null live");
});

function List({ ids }: { ids: string[] }) {
  const states = useOperations(ids);
  return h("p", null, [...states].map(([id, { status }]) => `${id}:${status}`).join(" "));
}

test("a list that grows and shrinks keeps what stays", async () => {
  const { root, draw } = mount();
  await draw(h(List, { ids: ["1", "2"] }));
  await settle();
  FakeSocket.last.says(state("1"), state("2", "queued"));
  await settle();
  await draw(h(List, { ids: ["2", "3"] }));
  await settle(300);
  assert.equal(root.textContent, "2:queued 3:unknown");
  assert.deepEqual(FakeSocket.last.asked("unwatch"), [{ type: "unwatch", operation: "1" }]);
  assert.equal(FakeSocket.last.asked("watch").filter(({ operation }) => operation === "2").length, 1);
});

test("an array that is made anew in each render is the same list", async () => {
  const { draw } = mount();
  for (let i = 0; i < 5; i++) await draw(h(List, { ids: ["1", "2"] }));
  await settle();
  assert.equal(FakeSocket.last.asked("watch").length, 2);
});

test("a burst of updates is drawn a few times", async () => {
  let draws = 0;
  const Inner = () => {
    useOperation("1");
    draws++;
    return null;
  };
  const { draw } = mount();
  await draw(h(Inner));
  await settle();
  FakeSocket.last.says(state("1"));
  await settle();
  draws = 0;
  for (let i = 1; i <= 1000; i++) FakeSocket.last.says(entry("1", `${i}-0`, { progress: i / 1000 }));
  await settle();
  assert.ok(draws <= 4, `${draws} draws`);
});

test("an id that cannot be one is a failed state, not a crash", async () => {
  const { root, draw } = mount();
  await draw(h(Bar, { id: "a/b" }));
  await turn();
  assert.equal(root.textContent, "unknown null failed");
});

test("a server renders what is known before anything is", () => {
  assert.equal(renderToString(h(Bar, { id: "1" })), "<p>unknown null connecting</p>");
  assert.equal(renderToString(h(List, { ids: ["1"] })), "<p>1:unknown</p>");
});
