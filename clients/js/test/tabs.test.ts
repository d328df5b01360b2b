/** Many tabs over one connection, and what happens when the tab that has it goes. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import type { TidegateClient } from "../src/client.js";
import { createTab } from "../src/tabs.js";
import { client, entry, FakeSocket, fresh, pass, state, turn, unwatched } from "./fakes.js";

beforeEach(fresh);

/** Locks and channels of one browser. */
class Browser {
  readonly #queues = new Map<string, Waiting[]>();
  readonly #tabs = new Set<Tab>();

  tab(): Tab {
    const tab = new Tab(this);
    this.#tabs.add(tab);
    return tab;
  }

  say(from: Tab, data: unknown): void {
    for (const tab of this.#tabs) {
      if (tab === from || tab.isGone) continue;
      const copy = structuredClone(data);
      queueMicrotask(() => tab.isFrozen || tab.isGone || tab.hear(copy));
    }
  }

  request(tab: Tab, name: string, steal: boolean, run: () => unknown): Promise<unknown> {
    return new Promise((_, reject) => {
      const queue = this.#queues.get(name) ?? [];
      this.#queues.set(name, queue);
      const one = { tab, run, reject, has: false };
      if (steal) {
        const [holder] = queue;
        if (holder?.has) queue.shift()!.reject(new DOMException("stolen", "AbortError"));
        queue.unshift(one);
      } else queue.push(one);
      this.#grant(queue);
    });
  }

  #grant(queue: Waiting[]): void {
    while (queue[0] && (queue[0].tab.isGone || !queue[0].has)) {
      const [first] = queue;
      if (first!.tab.isGone) queue.shift();
      else {
        first!.has = true;
        queueMicrotask(() => {
          if (first!.run() instanceof Promise) return;
          queue.splice(queue.indexOf(first!), 1);
          this.#grant(queue);
        });
      }
    }
  }

  close(tab: Tab): void {
    tab.isGone = true;
    for (const socket of tab.real) socket.close(1001);
    for (const queue of this.#queues.values()) {
      const held = queue[0]?.tab === tab;
      const rest = queue.filter((one) => one.tab !== tab);
      queue.splice(0, queue.length, ...rest);
      if (held) this.#grant(queue);
    }
  }
}

interface Waiting {
  tab: Tab;
  run: () => unknown;
  reject: (error: unknown) => void;
  has: boolean;
}

class Tab {
  isGone = false;
  isFrozen = false;
  readonly real: FakeSocket[] = [];
  readonly client: TidegateClient;
  hear: (data: unknown) => void = () => {};

  constructor(browser: Browser) {
    const { real } = this;
    const Real = class extends FakeSocket {
      constructor(url: string | URL, protocols: string | string[] = []) {
        super(url, protocols);
        real.push(this);
      }
    };
    const channel = {
      postMessage: (data: unknown) => browser.say(this, data),
      addEventListener: (_: string, listener: (event: { data: unknown }) => void) => {
        this.hear = (data) => listener({ data });
      },
    };
    const locks = {
      request: (name: string, options: unknown, run?: () => unknown) =>
        typeof options === "function"
          ? browser.request(this, name, false, options as () => unknown)
          : browser.request(this, name, !!(options as { steal?: boolean }).steal, run!),
    };
    const Shared = createTab("k", channel as never, locks as never, Real as never);
    this.client = client({ WebSocket: Shared as never, transports: ["websocket"] });
  }
}

test("tabs share a socket, and operations on it", async () => {
  const browser = new Browser();
  const [one, two] = [browser.tab(), browser.tab()];
  await turn();
  const watches = [one.client.watch("1"), two.client.watch("1"), two.client.watch("2")];
  await turn();
  assert.equal(FakeSocket.all.length, 1);
  assert.equal(one.real.length, 1);
  assert.deepEqual(
    FakeSocket.last.asked("watch").map(({ operation }) => operation),
    ["1", "2"],
    "the other tab joined before anything had come: it gets what comes",
  );
  FakeSocket.last.says(state("1"), entry("1", "1-0", { progress: 0.5 }), state("2"));
  await turn();
  assert.deepEqual(watches.map(({ state }) => [state.connection, state.progress]), [["live", 0.5], ["live", 0.5], ["live", null]]);
});

test("who joins later gets what was received, without asking the gateway", async () => {
  const browser = new Browser();
  const [one, two] = [browser.tab(), browser.tab()];
  await turn();
  one.client.watch("1");
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "1-0", { title: "T" }), entry("1", "2-0", { progress: 0.5 }));
  const late = two.client.watch("1");
  await turn();
  assert.deepEqual([late.state.title, late.state.progress, late.state.entries], ["T", 0.5, 2]);
  FakeSocket.last.says(entry("1", "3-0"));
  await turn();
  assert.equal(late.state.entries, 3);
  assert.equal(FakeSocket.last.asked("watch").length, 1);
});

test("who joins with a cursor of what was received gets the rest", async () => {
  const browser = new Browser();
  const [one, two] = [browser.tab(), browser.tab()];
  await turn();
  one.client.watch("1");
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "1-0"), entry("1", "2-0"), entry("1", "3-0"));
  const late = two.client.watch("1", { lastEventId: "2-0" });
  await turn();
  assert.deepEqual([late.state.entries, late.state.cursor, FakeSocket.all.length], [1, "3-0", 1]);
});

test("who asks for what was not received has a socket for it", async () => {
  for (const options of [{ lastEventId: "1-5" }, { lastEventId: "9-0" }, { history: "all" as const }]) {
    fresh();
    const browser = new Browser();
    const [one, two] = [browser.tab(), browser.tab()];
    await turn();
    one.client.watch("1");
    await turn();
    FakeSocket.last.says(state("1", "running", "0-9"), entry("1", "1-0"), entry("1", "2-0"));
    const late = two.client.watch("1", options);
    await turn();
    assert.equal(FakeSocket.all.length, 2);
    const [{ last_event_id, history }] = FakeSocket.last.asked("watch") as [Record<string, unknown>];
    assert.deepEqual([last_event_id, history], [(options as { lastEventId?: string }).lastEventId, (options as { history?: string }).history]);
    FakeSocket.last.says(state("1"), entry("1", "12-0"));
    await turn();
    assert.deepEqual([late.state.connection, late.state.entries], ["live", 1]);
  }
});

test("behind a gap nothing is handed on from memory", async () => {
  const browser = new Browser();
  const [one, two] = [browser.tab(), browser.tab()];
  await turn();
  one.client.watch("1");
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "5-0"), { type: "gap", operation: "1", data: { reason: "recreated" } }, entry("1", "1-0"));
  two.client.watch("1");
  await turn();
  assert.equal(FakeSocket.all.length, 2);
});

test("the tab that has the socket is closed: another takes over with the cursors", async () => {
  const browser = new Browser();
  const [one, two, three] = [browser.tab(), browser.tab(), browser.tab()];
  await turn();
  one.client.watch("0");
  const [a, b] = [two.client.watch("1"), three.client.watch("1")];
  await turn();
  FakeSocket.last.says(state("1"), entry("1", "7-0"));
  await turn();
  browser.close(one);
  await pass(300);
  assert.equal(FakeSocket.all.length, 2);
  assert.equal(two.real.length, 1);
  assert.deepEqual(FakeSocket.last.asked("watch"), [{ type: "watch", operation: "1", last_event_id: "7-0" }]);
  FakeSocket.last.says(state("1"), entry("1", "7-0"), entry("1", "8-0"));
  await turn();
  assert.deepEqual([a.state.entries, b.state.entries], [2, 2]);
});

test("a tab that goes takes its watches along", async () => {
  const browser = new Browser();
  const [one, two] = [browser.tab(), browser.tab()];
  await turn();
  one.client.watch("1");
  two.client.watch("1");
  two.client.watch("2");
  await turn();
  FakeSocket.last.says(state("1"), state("2"));
  await turn();
  browser.close(two);
  await turn();
  assert.deepEqual(FakeSocket.last.asked("unwatch"), [{ type: "unwatch", operation: "2" }]);
});

test("one tab leaves an operation, the other keeps it", async () => {
  const browser = new Browser();
  const [one, two] = [browser.tab(), browser.tab()];
  await turn();
  one.client.watch("0");
  const [a, b] = [one.client.watch("1"), two.client.watch("1")];
  await turn();
  FakeSocket.last.says(state("1"));
  a.close();
  await pass(200);
  assert.deepEqual(FakeSocket.last.asked("unwatch"), []);
  FakeSocket.last.says(entry("1", "1-0"));
  const again = one.client.watch("1");
  FakeSocket.last.says(entry("1", "2-0"));
  await turn();
  assert.deepEqual([b.state.entries, again.state.entries], [2, 2]);
  for (const watch of [b, again]) watch.close();
  await pass(200);
  assert.deepEqual(FakeSocket.last.asked("unwatch"), [{ type: "unwatch", operation: "1" }]);
  one.client.watch("1");
  await turn();
  FakeSocket.last.says(entry("1", "3-0"), unwatched("1", 1000, "unwatch"), state("1"), entry("1", "3-0"));
  await turn();
  assert.equal(FakeSocket.last.asked("watch").filter(({ operation }) => operation === "1").length, 2);
});

test("a frozen leader loses its place", async () => {
  const browser = new Browser();
  const [one, two] = [browser.tab(), browser.tab()];
  await turn();
  one.client.watch("0");
  await turn();
  one.isFrozen = true;
  const watch = two.client.watch("1");
  await pass(2_500);
  assert.equal(two.real.length, 1);
  two.real[0]!.says(state("1"), entry("1", "1-0"));
  await turn();
  assert.equal(watch.state.entries, 1);
});

test("refusals and drains reach all tabs", async () => {
  const browser = new Browser();
  const [one, two] = [browser.tab(), browser.tab()];
  await turn();
  const watches = [one.client.watch("1"), two.client.watch("2")];
  await turn();
  FakeSocket.last.says(state("1"), state("2"), { type: "reconnect", data: { after_ms: 1000, reason: "draining" } });
  FakeSocket.last.ends(1012);
  await pass(900);
  assert.equal(FakeSocket.all.length, 1);
  await pass(200);
  assert.equal(FakeSocket.all.length, 2);
  FakeSocket.last.says({ type: "error", data: { code: "forbidden", message: "no" } });
  FakeSocket.last.ends(4403);
  await turn();
  assert.deepEqual(watches.map(({ state: { failure } }) => failure?.name), ["WatchForbidden", "WatchForbidden"]);
});

test("what a gateway has no room for goes over another socket", async () => {
  const browser = new Browser();
  const [one, two] = [browser.tab(), browser.tab()];
  await turn();
  one.client.watch("1");
  const watch = two.client.watch("2");
  await turn();
  FakeSocket.last.says(state("1"), { type: "error", operation: "2", data: { code: "too_many_watches" } });
  await turn();
  assert.equal(FakeSocket.all.length, 2);
  FakeSocket.last.says(state("2"));
  await turn();
  assert.equal(watch.state.connection, "live");
});
