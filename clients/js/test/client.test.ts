/** The client over sockets: what is asked for, what comes back, and what happens after each end. */

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import {
  GatewayUnreachable,
  InvalidRequest,
  OperationNotFound,
  SignInRequired,
  TooManyConnections,
  WatchForbidden,
} from "../src/errors.js";
import type { Frame, Watch, WatchEvent } from "../src/watch.js";
import { client, entry, FakeSocket, fresh, jwt, pass, state, turn, unwatched } from "./fakes.js";

beforeEach(fresh);

test("one socket carries all operations of a page", async () => {
  const tidegate = client();
  tidegate.watch("1");
  tidegate.watch("2", { lastEventId: "5-0" });
  tidegate.watch("3", { history: "none" });
  await turn();
  assert.equal(FakeSocket.all.length, 1);
  assert.equal(FakeSocket.last.url, "wss://gateway.test/live/ws");
  assert.deepEqual(FakeSocket.last.sent, [
    { type: "watch", operation: "1" },
    { type: "watch", operation: "2", last_event_id: "5-0" },
    { type: "watch", operation: "3", history: "none" },
  ]);
  tidegate.watch("4");
  assert.equal(FakeSocket.last.asked("watch").length, 4);
});

test("watches of one operation share what is received", async () => {
  const tidegate = client();
  const [one, two] = [tidegate.watch("1"), tidegate.watch("1")];
  await turn();
  assert.equal(FakeSocket.last.asked("watch").length, 1);
  FakeSocket.last.says(state("1"), entry("1", "1-0", { progress: 0.5 }));
  assert.equal(one.state.progress, 0.5);
  assert.equal(two.state, one.state);
  one.close();
  await pass(1000);
  assert.deepEqual(FakeSocket.last.asked("unwatch"), []);
  two.close();
  await pass(1000);
  assert.deepEqual(FakeSocket.last.asked("unwatch"), [{ type: "unwatch", operation: "1" }]);
  assert.equal(FakeSocket.last.closedWith, 1000, "nothing is watched any more");
});

test("a watch that is closed and made anew in one turn is one watch", async () => {
  const tidegate = client();
  tidegate.watch("1").close();
  tidegate.watch("1");
  await pass(1000);
  assert.equal(FakeSocket.last.asked("watch").length, 1);
  assert.deepEqual(FakeSocket.last.asked("unwatch"), []);
});

test("after a lost connection it resumes with its cursors, at the next replica", async () => {
  const tidegate = client({ url: ["http://a.test", "http://b.test"] });
  const watch = tidegate.watch("1");
  tidegate.watch("2");
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "7-1"), state("2", "unknown", "9-9"));
  assert.equal(watch.state.connection, "live");
  FakeSocket.last.ends(1006);
  assert.equal(watch.state.connection, "waiting");
  await pass(250);
  assert.equal(FakeSocket.all.length, 2);
  assert.equal(FakeSocket.last.url, "ws://b.test/ws");
  assert.deepEqual(FakeSocket.last.asked("watch"), [
    { type: "watch", operation: "1", last_event_id: "7-1" },
    { type: "watch", operation: "2", last_event_id: "9-9" },
  ]);
});

test("nothing is lost or doubled over a reconnect", async () => {
  const watch = client().watch("1");
  const seen: (string | null)[] = [];
  watch.addEventListener("frame", (event) => seen.push((event as unknown as { frame: Frame }).frame.id));
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "1-0"), entry("1", "2-0"));
  FakeSocket.last.ends(1006);
  await pass(250);
  FakeSocket.last.says(state("1"), entry("1", "2-0"), entry("1", "3-0"), entry("1", "3-0"));
  assert.deepEqual(seen, [null, "1-0", "2-0", "3-0"]);
});

test("the delay of a drain is obeyed, also when the page comes back meanwhile", async () => {
  client().watch("1");
  await turn();
  FakeSocket.last.says(state("1"), { type: "reconnect", data: { after_ms: 3000, reason: "draining" } });
  FakeSocket.last.ends(1012);
  await pass(2900);
  assert.equal(FakeSocket.all.length, 1);
  await pass(200);
  assert.equal(FakeSocket.all.length, 2);
});

test("an operation that ends leaves the socket to the others", async () => {
  const tidegate = client();
  const watch = tidegate.watch("1");
  const other = tidegate.watch("2");
  const ends: string[] = [];
  watch.addEventListener("end", () => ends.push(watch.state.status));
  await turn();
  FakeSocket.last.says(state("1"), state("2"), entry("1", "1-0", { result: 7 }, "operation_completed"));
  FakeSocket.last.says(unwatched("1", 1000, "finished"));
  assert.deepEqual(ends, ["completed"]);
  const last = await watch.done;
  assert.deepEqual([last.connection, last.progress, last.result], ["ended", 1, 7]);
  assert.equal(other.state.connection, "live");
  FakeSocket.last.ends(1006);
  await pass(250);
  assert.deepEqual(FakeSocket.last.asked("watch"), [{ type: "watch", operation: "2", last_event_id: "0-0" }]);
});

test("a refusal of one operation is an error with the gateway's code", async () => {
  const tidegate = client();
  const [bad, good] = [tidegate.watch("1"), tidegate.watch("2")];
  await turn();
  const data = { code: "not_yours", message: "this is somebody else's", retry: false };
  FakeSocket.last.says({ type: "error", operation: "1", data }, unwatched("1", 4403, "forbidden"), state("2"));
  await assert.rejects(bad.done, (error: unknown) => {
    assert.ok(error instanceof WatchForbidden);
    assert.deepEqual([error.code, error.message, error.retry, error.close], ["not_yours", data.message, false, 4403]);
    assert.equal(error.name, "WatchForbidden");
    return true;
  });
  assert.ok(bad.state.failure instanceof WatchForbidden);
  assert.equal(good.state.connection, "live");
  await assert.rejects(async () => {
    for await (const _ of bad);
  }, WatchForbidden);
});

test("a refusal of the connection refuses all that is on it", async () => {
  const tidegate = client();
  const watches = [tidegate.watch("1"), tidegate.watch("2")];
  await turn();
  FakeSocket.last.says({ type: "error", data: { code: "connection_limit", message: "10 of 10", retry: true } });
  FakeSocket.last.ends(4429);
  for (const watch of watches) await assert.rejects(watch.done, TooManyConnections);
  await pass(20_000);
  assert.equal(FakeSocket.all.length, 1);
  tidegate.watch("1");
  await turn();
  assert.equal(FakeSocket.all.length, 2, "a new watch tries again");
});

test("an operation that cannot be served now is asked for again on the same socket", async () => {
  const watch = client().watch("1");
  await turn();
  FakeSocket.last.says(unwatched("1", 1013, "overloaded"));
  assert.equal(watch.state.connection, "waiting");
  await pass(900);
  assert.equal(FakeSocket.last.asked("watch").length, 1);
  await pass(400);
  assert.equal(FakeSocket.last.asked("watch").length, 2);
  assert.equal(FakeSocket.all.length, 1);
});

test("what a gateway has no room for goes over another socket", async () => {
  const tidegate = client();
  const watches = ["1", "2", "3"].map((id) => tidegate.watch(id));
  await turn();
  const [first] = FakeSocket.all;
  first!.says(state("1"), state("2"), { type: "error", operation: "3", data: { code: "too_many_watches" } });
  await turn();
  assert.equal(FakeSocket.all.length, 2);
  FakeSocket.last.says(state("3"));
  assert.deepEqual(watches.map(({ state: { connection } }) => connection), ["live", "live", "live"]);
  tidegate.watch("4");
  await turn();
  assert.deepEqual(FakeSocket.last.asked("watch").map(({ operation }) => operation), ["3", "4"]);
});

test("500 operations are four sockets", async () => {
  const tidegate = client();
  for (let i = 0; i < 500; i++) tidegate.watch(`op-${i}`);
  await turn();
  assert.deepEqual(FakeSocket.all.map((socket) => socket.asked("watch").length), [100, 100, 100, 100]);
  FakeSocket.answers = true;
  await pass(1_000);
  assert.deepEqual(FakeSocket.all.map((socket) => socket.asked("watch").length), [128, 128, 128, 116]);
});

test("what still comes of a watch that was left does not belong to the next one", async () => {
  const tidegate = client();
  tidegate.watch("2");
  const left = tidegate.watch("1");
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "8-0"));
  left.close();
  await pass(200);
  const again = tidegate.watch("1");
  FakeSocket.last.says(entry("1", "9-0"), unwatched("1", 1000, "unwatch"), state("1"), entry("1", "1-0"), entry("1", "9-0"));
  assert.deepEqual([again.state.entries, again.state.cursor], [2, "9-0"], "history is not lost");
});

test("a watch that ended as it was left leaves nothing behind", async () => {
  const tidegate = client();
  tidegate.watch("2");
  const left = tidegate.watch("1");
  await turn();
  left.close();
  await pass(200);
  FakeSocket.last.says({ type: "error", operation: "1", data: { code: "not_watched" } });
  const again = tidegate.watch("1");
  FakeSocket.last.says(state("1"), entry("1", "1-0"));
  assert.equal(again.state.entries, 1);
});

test("a token goes in the sub-protocol and never in the address", async () => {
  client({ token: "aaa.bbb.ccc" }).watch("1");
  await turn();
  assert.deepEqual(FakeSocket.last.protocols, ["tidegate.v1", "access_token.aaa.bbb.ccc"]);
  assert.ok(!FakeSocket.last.url.includes("aaa"));
});

test("a token function is called again before the token ends, and the socket stays", async () => {
  const given: string[] = [];
  const token = async () => {
    given.push(jwt(Date.now(), 300 + given.length));
    return given.at(-1)!;
  };
  client({ token }).watch("1");
  await turn();
  FakeSocket.last.says(state("1"));
  FakeSocket.answers = true;
  await pass(240_000, 1_000);
  FakeSocket.last.says({ type: "expiring", data: { in_s: 60 } });
  await pass(29_900, 1_000);
  assert.equal(given.length, 1);
  await pass(2_000);
  assert.equal(FakeSocket.all.length, 1);
  assert.deepEqual(FakeSocket.last.asked("refresh"), [{ type: "refresh", token: given[1] }]);
});

test("a token function is called when the gateway says that the token ends", async () => {
  let calls = 0;
  client({ token: () => `t.${++calls}` }).watch("1");
  await turn();
  FakeSocket.answers = true;
  FakeSocket.last.says(state("1"), { type: "expiring", data: { in_s: 60 } });
  await pass(29_900, 1_000);
  assert.deepEqual(FakeSocket.last.asked("refresh"), []);
  await pass(200);
  assert.deepEqual(FakeSocket.last.asked("refresh"), [{ type: "refresh", token: "t.2" }]);
});

test("tokens that end soon were renewed again and again, until the gateway closed with 4400", async () => {
  const token = () => jwt(Date.now(), 12);
  client({ token }).watch("1");
  await turn();
  FakeSocket.answers = true;
  const expiring = { type: "expiring", data: { in_s: 12 } };
  FakeSocket.last.says(state("1"), expiring);
  let answered = 0;
  for (let i = 0; i < 60; i++) {
    await pass(200);
    // A gateway tells of each new token that it ends soon.
    for (; answered < FakeSocket.last.asked("refresh").length; answered++) FakeSocket.last.says({ type: "refreshed" }, expiring);
  }
  assert.equal(answered, 2, "after 6 s and after 12 s");
});

test("4401 is answered with a new token, once", async () => {
  let calls = 0;
  const watch = client({ token: () => `t.${++calls}` }).watch("1");
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "3-0"));
  FakeSocket.last.ends(4401);
  await pass(10);
  assert.deepEqual(FakeSocket.last.protocols, ["tidegate.v1", "access_token.t.2"]);
  assert.deepEqual(FakeSocket.last.asked("watch"), [{ type: "watch", operation: "1", last_event_id: "3-0" }]);
  FakeSocket.last.ends(4401);
  await assert.rejects(watch.done, SignInRequired);
});

test("a token function that fails is asked again, and may give up", async () => {
  let calls = 0;
  const watch = client({
    token: () => {
      if (++calls < 3) throw new Error("offline");
      throw new SignInRequired("log in again", "signed_out");
    },
  }).watch("1");
  await pass(2_000);
  assert.equal(calls, 3);
  await assert.rejects(watch.done, SignInRequired);
  assert.equal(FakeSocket.all.length, 0);
});

test("a quiet connection is asked whether it is there, and given up without an answer", async () => {
  client().watch("1");
  await turn();
  FakeSocket.last.says(state("1"));
  await pass(10_100);
  assert.deepEqual(FakeSocket.last.asked("ping").length, 1);
  FakeSocket.last.says({ type: "pong" });
  await pass(10_100);
  assert.deepEqual(FakeSocket.last.asked("ping").length, 2);
  await pass(5_500);
  assert.equal(FakeSocket.all.length, 2);
});

test("a page that stood still asks before it gives a connection up", async () => {
  client().watch("1");
  await turn();
  const [socket] = FakeSocket.all;
  socket!.says(state("1"));
  await pass(10_100);
  mock.timers.tick(3_600_000); // one timer, an hour late
  await turn();
  assert.equal(socket!.closedWith, null);
  socket!.says({ type: "pong" });
  await pass(5_500);
  assert.equal(FakeSocket.all.length, 1);
});

test("a socket that does not open is given up", async () => {
  FakeSocket.opens = false;
  client().watch("1");
  await pass(10_300);
  assert.equal(FakeSocket.all.length, 2);
});

test("a page in the back-forward cache has no socket, and resumes when it is shown", async () => {
  const scope = globalThis as unknown as { addEventListener: unknown; removeEventListener: unknown };
  const target = new EventTarget();
  scope.addEventListener = target.addEventListener.bind(target);
  try {
    const watch = client().watch("1");
    await turn();
    FakeSocket.last.says(state("1"), entry("1", "4-0"));
    target.dispatchEvent(new Event("pagehide"));
    assert.equal(FakeSocket.last.closedWith, 1000);
    assert.equal(watch.state.connection, "waiting");
    await pass(60_000, 10_000);
    assert.equal(FakeSocket.all.length, 1);
    target.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
    await turn();
    assert.deepEqual(FakeSocket.last.asked("watch"), [{ type: "watch", operation: "1", last_event_id: "4-0" }]);
  } finally {
    delete scope.addEventListener;
  }
});

test("the network is back: a connection that lives is asked, one that waits is made", async () => {
  const scope = globalThis as unknown as { addEventListener: unknown };
  const target = new EventTarget();
  scope.addEventListener = target.addEventListener.bind(target);
  try {
    client({ transports: ["websocket"] }).watch("1");
    await turn();
    FakeSocket.last.says(state("1"));
    target.dispatchEvent(new Event("online"));
    assert.equal(FakeSocket.last.asked("ping").length, 1);
    FakeSocket.opens = false;
    for (let i = 0; i < 6; i++) {
      FakeSocket.last.ends(1006);
      await pass(11_000, 1_000);
    }
    const { length } = FakeSocket.all;
    FakeSocket.last.ends(1006);
    target.dispatchEvent(new Event("online"));
    await turn();
    assert.equal(FakeSocket.all.length, length + 1);
  } finally {
    delete scope.addEventListener;
  }
});

test("iterating gives each frame, and ends with the operation", async () => {
  const watch = client().watch("1");
  const seen: unknown[] = [];
  const reading = (async () => {
    for await (const { type, id, epoch } of watch) seen.push([type, id, epoch]);
  })();
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "5-0"));
  FakeSocket.last.says({ type: "gap", operation: "1", data: { reason: "recreated", before: "1-0" } });
  FakeSocket.last.says(entry("1", "1-0", {}, "operation_failed"), unwatched("1", 1000, "finished"));
  await reading;
  assert.deepEqual(seen, [
    ["current_state", null, 0],
    ["progress", "5-0", 0],
    ["gap", null, 1],
    ["operation_failed", "1-0", 1],
  ]);
});

test("who begins to iterate later begins with the state of then", async () => {
  const watch = client().watch("1");
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "5-0", { status: "packing" }));
  const frames = watch[Symbol.asyncIterator]();
  const { value } = (await frames.next()) as { value: Frame };
  assert.deepEqual([value.type, value.data], ["current_state", { status: "packing" }]);
  FakeSocket.last.says(entry("1", "6-0"));
  assert.equal(((await frames.next()) as { value: Frame }).value.id, "6-0");
});

test("leaving the loop closes the watch", async () => {
  const tidegate = client();
  tidegate.watch("2");
  await turn();
  queueMicrotask(() => queueMicrotask(() => FakeSocket.last.says(state("1"))));
  const watch = tidegate.watch("1");
  setImmediate(() => FakeSocket.last.says(state("1")));
  for await (const _ of watch) break;
  await pass(200);
  assert.equal(watch.state.connection, "closed");
  assert.equal(FakeSocket.last.asked("unwatch").length, 1);
});

test("a reader that is too slow loses superseded progress first, and is told how much", async () => {
  const watch = client().watch("1");
  const frames = watch[Symbol.asyncIterator]();
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "1-0", {}, "log"));
  for (let i = 2; i <= 1500; i++) FakeSocket.last.says(entry("1", `${i}-0`));
  const { value } = (await frames.next()) as { value: Frame };
  assert.deepEqual([value.type, value.data], ["skipped", { count: 501 }]);
  const seen: string[] = [];
  for (let i = 0; i < 1000; i++) seen.push(((await frames.next()) as { value: Frame }).value.type);
  assert.deepEqual(seen.slice(0, 3), ["current_state", "log", "progress"]);
  assert.equal(watch.state.entries, 1500, "the state has all of it");
});

test("an abort ends a watch with its reason", async () => {
  const ended = new AbortController();
  const watch = client().watch("1", { signal: ended.signal });
  await turn();
  FakeSocket.last.says(state("1"));
  const reading = (async () => {
    for await (const _ of watch);
  })();
  ended.abort(new Error("the user left"));
  await assert.rejects(reading, /the user left/);
  await assert.rejects(watch.done, /the user left/);
  await pass(200);
  assert.equal(FakeSocket.last.closedWith, 1000);
  const late = client().watch("1", { signal: ended.signal });
  await assert.rejects(late.done, /the user left/);
});

test("an event that nobody listens to is not made", async () => {
  const watch = client().watch("1");
  const made: string[] = [];
  const dispatch = watch.dispatchEvent.bind(watch);
  watch.dispatchEvent = (event) => {
    made.push(event.type);
    return dispatch(event);
  };
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "1-0"));
  await pass(100);
  assert.deepEqual(made, []);
  watch.addEventListener("change", () => {});
  FakeSocket.last.says(entry("1", "2-0"));
  await pass(100);
  assert.deepEqual(made, ["change"]);
});

test("onFrame is called with each frame, and what it throws keeps no frame from the others", async (t) => {
  const seen: string[][] = [];
  const tidegate = client();
  const failing = tidegate.watch("1", {
    onFrame: () => {
      throw new Error("a page's own");
    },
  });
  failing.addEventListener("frame", (event) => seen.push(["event", (event as WatchEvent).frame!.type]));
  tidegate.watch("1", { onFrame: ({ type, id }) => seen.push([type, id ?? ""]) });
  await turn();
  const thrown: (() => void)[] = [];
  t.mock.method(globalThis, "queueMicrotask", (later: () => void) => thrown.push(later));
  FakeSocket.last.says(state("1"), entry("1", "1-0"), entry("1", "1-0"));
  assert.deepEqual(seen, [
    ["event", "current_state"],
    ["current_state", ""],
    ["event", "progress"],
    ["progress", "1-0"],
  ]);
  assert.equal(thrown.length, 2);
  for (const later of thrown) assert.throws(later, /a page's own/);
  assert.equal(failing.state.entries, 1);
});

test("a state that nobody looks at is folded all the same", async () => {
  const watch = client().watch("1");
  await turn();
  FakeSocket.last.says(state("1"));
  for (let i = 1; i <= 100; i++) FakeSocket.last.says(entry("1", `${i}-0`, { text: "a" }, "append"));
  const { text, entries, cursor } = watch.state;
  assert.deepEqual([text, entries, cursor], ["a".repeat(100), 100, "100-0"]);
  FakeSocket.last.says(entry("1", "101-0"));
  FakeSocket.last.ends(1006);
  await pass(1000, 50);
  assert.equal(FakeSocket.last.asked("watch")[0]!.last_event_id, "101-0", "it resumes behind what waits to be folded");
});

test("change is told at most once in a frame of the screen, and the state is another object", async () => {
  const watch = client().watch("1");
  let changes = 0;
  watch.addEventListener("change", () => changes++);
  await turn();
  await pass(20, 20);
  changes = 0;
  const before = watch.state;
  assert.equal(watch.state, before);
  for (let i = 1; i <= 100; i++) FakeSocket.last.says(entry("1", `${i}-0`, { progress: i / 100 }));
  assert.notEqual(watch.state, before);
  await pass(20, 20);
  assert.equal(changes, 1);
  assert.ok(Object.isFrozen(watch.state));
});

test("patience has an end, if it is said", async () => {
  FakeSocket.opens = false;
  const watch = client({ patienceMs: 30_000, transports: ["websocket"] }).watch("1");
  await pass(60_000, 500);
  await assert.rejects(watch.done, (error: unknown) => error instanceof GatewayUnreachable && error.retry);
});

test("closing the client closes all", async () => {
  const tidegate = client();
  const watches = [tidegate.watch("1"), tidegate.watch("2")];
  await turn();
  tidegate.close();
  tidegate.close();
  await pass(500);
  assert.equal(FakeSocket.last.closedWith, 1000);
  for (const watch of watches) assert.equal((await watch.done).connection, "closed");
  assert.throws(() => tidegate.watch("3"), InvalidRequest);
});

test("1,000 watches that come and go leave nothing", async () => {
  const tidegate = client();
  const stays = tidegate.watch("stays");
  FakeSocket.answers = true;
  await turn();
  const socket = FakeSocket.last;
  for (let i = 0; i < 1000; i++) tidegate.watch(`op-${i}`).close();
  await pass(80_000, 1_000);
  const count = (type: string) => socket.asked(type).length;
  assert.equal(count("watch") - count("unwatch"), 1);
  stays.close();
  await pass(500);
  for (const one of FakeSocket.all) assert.equal(one.closedWith, 1000);
});

test("a page in a hurry was closed with 4400: a gateway takes 178 messages a second", async () => {
  const tidegate = client();
  tidegate.watch("stays");
  FakeSocket.answers = true;
  await turn();
  const socket = FakeSocket.last;
  const watches: Watch[] = [];
  let least = Infinity;
  for (let second = 0, before = 0; second < 20; second++) {
    for (let i = 0; i < 100; i++) watches.push(tidegate.watch(`op-${second}-${i}`));
    await pass(200, 100);
    for (const watch of watches.splice(0)) watch.close();
    await pass(800, 100);
    assert.ok(socket.sent.length - before <= 178, `${socket.sent.length - before} in a second`);
    least = Math.min(least, socket.sent.length - before);
    before = socket.sent.length;
  }
  assert.ok(least >= 44);
});

test("a gateway that takes less than the default was given up", async () => {
  const tidegate = client();
  const watches = Array.from({ length: 60 }, (_, i) => tidegate.watch(`${i}`));
  await turn();
  const [socket] = FakeSocket.all;
  for (let i = 0; i < 10; i++) socket!.says(state(`${i}`));
  for (let i = 10; i < 40; i++) socket!.says({ type: "error", operation: `${i}`, data: { code: "too_many_watches" } });
  socket!.says({ type: "error", data: { code: "too_many_messages", message: "slow down", retry: false } });
  socket!.ends(4400);
  await pass(1_300);
  assert.deepEqual(watches.map(({ state }) => state.connection).filter((way) => way === "failed"), []);
  assert.ok(FakeSocket.last.asked("watch").length > 0);
});

test("a gateway is not told again of what it has ended", async () => {
  const tidegate = client();
  tidegate.watch("2");
  const watch = tidegate.watch("1");
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "1-0", {}, "operation_completed"), unwatched("1", 1000, "finished"));
  await pass(500);
  assert.deepEqual(FakeSocket.last.asked("unwatch"), []);
  assert.equal(watch.state.connection, "ended");
  const again = tidegate.watch("1");
  FakeSocket.last.says(state("1"), entry("1", "1-0", {}, "operation_completed"));
  assert.equal(again.state.status, "completed");
});

test("what is watched while a socket opens is asked for once", async () => {
  FakeSocket.opens = false;
  const tidegate = client();
  for (let i = 0; i < 60; i++) tidegate.watch(`early-${i}`);
  await turn();
  for (let i = 0; i < 68; i++) tidegate.watch(`late-${i}`);
  await pass(500);
  FakeSocket.answers = true;
  FakeSocket.last.open();
  await pass(2_000);
  const asked = FakeSocket.last.asked("watch").map(({ operation }) => operation);
  assert.deepEqual([asked.length, new Set(asked).size], [128, 128]);
});

test("what cannot be is refused at once", () => {
  const tidegate = client();
  assert.throws(() => tidegate.watch("a/b"), InvalidRequest);
  assert.throws(() => tidegate.watch(""), InvalidRequest);
  assert.throws(() => tidegate.watch("1", { lastEventId: "soon" }), InvalidRequest);
  assert.throws(() => client({ url: "ftp://x" }), InvalidRequest);
  assert.throws(() => client({ url: [] }), InvalidRequest);
});

test("operations named like members of prototypes are operations", async () => {
  const watch = client().watch("__proto__");
  await turn();
  FakeSocket.last.says(state("constructor"), state("__proto__"), entry("__proto__", "1-0"));
  assert.equal(watch.state.entries, 1);
});

test("a 404 of the backend is OperationNotFound", async () => {
  const watch = client().watch("1");
  await turn();
  FakeSocket.last.says(unwatched("1", 4404, "not_found"));
  await assert.rejects(watch.done, OperationNotFound);
});

test("a connection that dies behind the end of an operation is its end", async () => {
  const watch = client().watch("1");
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "1-0", {}, "operation_completed"));
  FakeSocket.last.ends(1006);
  assert.equal((await watch.done).status, "completed");
  await pass(1000);
  assert.equal(FakeSocket.all.length, 1);
});

test("what is no frame is passed over", async () => {
  const watch = client().watch("1");
  await turn();
  for (const data of ["", "null", "[]", "{", new ArrayBuffer(4), '{"id":7}', '{"type":"unwatched"}', '{"type":"error"}'])
    FakeSocket.last.onmessage?.({ data });
  FakeSocket.last.says(state("1"), entry("1", "1-0"));
  assert.equal(watch.state.entries, 1);
});
