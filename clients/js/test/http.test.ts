/** Where no WebSocket comes through: event streams, long polls, and the way back. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { SignInRequired, WatchForbidden } from "../src/errors.js";
import type { ClientOptions } from "../src/options.js";
import type { Json } from "../src/values.js";
import { client, entry, FakeSocket, fresh, pass, state, turn } from "./fakes.js";

/** A request that waits for its answer. */
class Request {
  readonly url: URL;
  readonly headers: Record<string, string>;
  readonly signal: AbortSignal;
  answer!: (response: Response) => void;
  fail!: (error: Error) => void;
  #stream: ReadableStreamDefaultController<Uint8Array> | null = null;

  constructor(url: URL, { headers, signal }: RequestInit) {
    this.url = url;
    this.headers = headers as Record<string, string>;
    this.signal = signal!;
  }

  get path(): string {
    return this.url.pathname;
  }

  json(body: Json, status = 200, headers: Record<string, string> = {}): void {
    this.answer(new Response(JSON.stringify(body), { status, headers }));
  }

  /** An event stream begins. */
  stream(...frames: Json[]): void {
    const body = new ReadableStream<Uint8Array>({ start: (controller) => void (this.#stream = controller) });
    this.signal.addEventListener("abort", () => {
      try {
        this.#stream?.error(new DOMException("aborted", "AbortError"));
      } catch {
        // it had ended
      }
    });
    this.answer(new Response(body, { headers: { "content-type": "text/event-stream" } }));
    if (frames.length) this.write("retry: 2310\n\n");
    this.says(...frames);
  }

  write(text: string): void {
    this.#stream!.enqueue(new TextEncoder().encode(text));
  }

  says(...frames: Json[]): void {
    for (const frame of frames) this.write(`id: 1-0\ndata: ${JSON.stringify(frame)}\n\n`);
  }

  end(): void {
    this.#stream!.close();
  }
}

let requests: Request[] = [];
const fakeFetch = ((url: URL, init: RequestInit) =>
  new Promise<Response>((answer, fail) => {
    const request = new Request(url, init);
    Object.assign(request, { answer, fail });
    init.signal!.addEventListener("abort", () => fail(new DOMException("aborted", "AbortError")));
    requests.push(request);
  })) as unknown as typeof fetch;
const last = () => requests.at(-1)!;

beforeEach(() => {
  fresh();
  requests = [];
});

const http = (options: ClientOptions = {}) => client({ fetch: fakeFetch, ...options });
const streams = (options: ClientOptions = {}) => http({ transports: ["sse", "poll"], ...options });
const polls = (options: ClientOptions = {}) => http({ transports: ["poll"], ...options });
const end = (code: number, name: string) =>
  `event: end\ndata: {"type":"end","data":{"code":${code},"name":"${name}"}}\n\n`;

test("two sockets that bring nothing, and HTTP is tried", async () => {
  FakeSocket.opens = false;
  const watch = http({ token: () => "t.1" }).watch("1", { history: 5 });
  await turn();
  FakeSocket.last.ends(1006);
  await pass(250);
  FakeSocket.last.ends(1006);
  await pass(450);
  assert.equal(FakeSocket.all.length, 2);
  assert.equal(last().url.href, "https://gateway.test/live/sse/operations/1?history=5");
  assert.equal(last().headers.Authorization, "Bearer t.1");
  last().stream(state("1"), entry("1", "1-0", { progress: 0.5 }));
  await turn();
  assert.deepEqual([watch.state.connection, watch.state.progress], ["live", 0.5]);
});

test("a socket that opened and brought something is no reason for HTTP", async () => {
  http().watch("1");
  await turn();
  for (let i = 0; i < 4; i++) {
    FakeSocket.last.says(state("1"));
    FakeSocket.last.ends(1006);
    await pass(250);
  }
  assert.deepEqual([FakeSocket.all.length, requests.length], [5, 0]);
});

test("an event stream to its end", async () => {
  const watch = streams().watch("1");
  await turn();
  last().stream(state("1"));
  last().write('id: 2-0\nda');
  await turn();
  last().write(`ta: ${JSON.stringify(entry("1", "2-0", {}, "operation_completed"))}\r\n\n:\n\n`);
  await turn();
  assert.equal(watch.state.status, "completed");
  last().write(end(1000, "finished"));
  assert.equal((await watch.done).connection, "ended");
  await pass(1000);
  assert.equal(requests.length, 1);
  assert.ok(last().signal.aborted);
});

test("a stream that breaks resumes with its cursor", async () => {
  const watch = streams().watch("1");
  await turn();
  last().stream(state("1"), entry("1", "7-1"));
  await turn();
  last().end();
  await turn();
  assert.equal(watch.state.connection, "waiting");
  await pass(300);
  assert.equal(last().url.search, "?last_event_id=7-1");
  last().stream(state("1"), entry("1", "7-1"), entry("1", "8-0"));
  await turn();
  assert.equal(watch.state.entries, 2);
});

test("a proxy that refuses event streams is not the gateway: polls", async () => {
  const watch = streams().watch("1");
  await turn();
  last().answer(new Response("<h1>403 Forbidden</h1>", { status: 403 }));
  await turn();
  assert.equal(last().path, "/live/operations/1/events");
  last().json({ events: [entry("1", "1-0", { progress: 0.5 })], cursor: "1-0", status: "running" });
  await turn();
  assert.deepEqual([watch.state.connection, watch.state.progress], ["live", 0.5]);
});

test("a refusal that a page of another origin may not read: polls, and streams again later", async (t) => {
  t.mock.method(Math, "random", () => 0.5);
  FakeSocket.opens = false;
  const watch = http({ transports: ["websocket", "sse", "poll"] }).watch("1");
  await turn();
  FakeSocket.last.ends(1006);
  await pass(250);
  FakeSocket.last.ends(1006);
  await pass(450);
  last().fail(new TypeError("Failed to fetch"));
  await turn();
  assert.equal(last().path, "/live/operations/1/events");
  last().json({ events: [entry("1", "1-0")], cursor: "1-0", status: "running" });
  await pass(16_000, 500);
  assert.equal(FakeSocket.all.length, 3);
  FakeSocket.last.ends(1006);
  last().json({ events: [], cursor: "1-0", status: "running" });
  await turn();
  assert.equal(last().url.href, "https://gateway.test/live/sse/operations/1?last_event_id=1-0");
  last().stream(state("1"), entry("1", "2-0"));
  await turn();
  assert.deepEqual([watch.state.connection, watch.state.entries], ["live", 2]);
});

test("where polls are refused like that too, the watch has failed", async () => {
  const watch = streams().watch("1");
  for (let i = 0; i < 2; i++) {
    await turn();
    last().answer(new Response("<h1>403 Forbidden</h1>", { status: 403 }));
  }
  await assert.rejects(watch.done, WatchForbidden);
  assert.equal(requests.length, 2);
});

test("a drain says when to come back, over HTTP too", async () => {
  streams().watch("1");
  await turn();
  last().stream(state("1"), { type: "reconnect", data: { after_ms: 2000, reason: "draining" } });
  last().end();
  await pass(1900);
  assert.equal(requests.length, 1);
  await pass(200);
  assert.equal(requests.length, 2);
});

test("a stream that says nothing for long is given up", async () => {
  streams().watch("1");
  await turn();
  last().stream(state("1"));
  await pass(46_000, 1_000);
  assert.equal(requests.length, 2);
});

test("a refusal over HTTP has the class and the code of one over a socket", async () => {
  const watch = streams().watch("1");
  await turn();
  last().json({ code: "not_yours", detail: "this is somebody else's" }, 403);
  await assert.rejects(watch.done, (error: unknown) => {
    assert.ok(error instanceof WatchForbidden);
    assert.deepEqual([error.code, error.message, error.close], ["not_yours", "this is somebody else's", 4403]);
    return true;
  });
});

test("a refusal by the end of a stream", async () => {
  const watch = streams().watch("1");
  await turn();
  last().stream(state("1"), { type: "error", operation: "1", data: { code: "token_expired", message: "it has ended" } });
  last().write(end(4401, "unauthenticated"));
  await assert.rejects(watch.done, (error: unknown) => error instanceof SignInRequired && error.code === "token_expired");
});

test("an event stream whose token has ended comes back with another", async () => {
  let calls = 0;
  const watch = streams({ token: () => `t.${++calls}` }).watch("1");
  await turn();
  last().stream(state("1"));
  last().write(end(4401, "unauthenticated"));
  await pass(20);
  assert.equal(requests.length, 2);
  assert.notEqual(last().headers.Authorization, requests[0]!.headers.Authorization);
  assert.notEqual(watch.state.connection, "failed");
});

test("503 waits for as long as it says", async () => {
  streams().watch("1");
  await turn();
  last().json({ code: "overloaded" }, 503, { "Retry-After": "3" });
  await pass(2900);
  assert.equal(requests.length, 1);
  await pass(400);
  assert.equal(requests.length, 2);
});

test("204 is the end of an operation that was seen to its end", async () => {
  const watch = streams().watch("1", { lastEventId: "9-0" });
  await turn();
  last().answer(new Response(null, { status: 204 }));
  assert.equal((await watch.done).connection, "ended");
});

test("streams that are held back on the way: long polls", async () => {
  const watch = streams().watch("1");
  await turn();
  last().stream(); // headers, and then nothing
  await pass(10_200);
  assert.equal(last().path, "/live/operations/1/events");
  assert.equal(last().url.search, "?wait=25&limit=500");
  const page = { operation: "1", cursor: "2-0", more: true, gap: null, status: "running", finished: false };
  last().json({ ...page, events: [entry("1", "1-0", { progress: 0.1 }), entry("1", "2-0", { progress: 0.2 })] });
  await turn();
  assert.deepEqual([watch.state.connection, watch.state.progress], ["live", 0.2]);
  assert.equal(last().url.searchParams.get("after"), "2-0");
  last().json({
    ...page,
    events: [entry("1", "5-0", {}, "operation_failed")],
    gap: { after: "2-0", before: "5-0", reason: "trimmed" },
    cursor: "5-0",
    more: false,
    status: "failed",
    finished: true,
  });
  const { status, gaps, cursor, entries } = await watch.done;
  assert.deepEqual([status, gaps, cursor, entries], ["failed", 1, "5-0", 3]);
});

test("an operation that has not begun is waited for", async () => {
  const watch = polls().watch("1");
  await turn();
  await pass(24_900, 1_000);
  last().json({ code: "no_stream" }, 404);
  await turn();
  assert.equal(requests.length, 2);
  assert.equal(watch.state.status, "unknown");
  last().json({ code: "no_stream" }, 404); // at once, by a replica that is going away
  await turn();
  assert.equal(requests.length, 2, "else the two would ask and answer without a pause");
  await pass(1_000);
  assert.equal(requests.length, 3);
  last().json({ code: "not_found" }, 404); // nobody knows it
  await assert.rejects(watch.done, /refused/);
});

test("an operation that is not known is refused, however long that took", async () => {
  const watch = polls().watch("1");
  await turn();
  await pass(24_900, 1_000);
  last().json({ code: "not_found" }, 404);
  await assert.rejects(watch.done, /refused/);
});

test("a poll goes on where the last page ended, also when that had no events", async () => {
  const watch = polls().watch("1", { lastEventId: "3-0" });
  await turn();
  const page = { operation: "1", events: [], more: false, status: "running", finished: false };
  last().json({ ...page, cursor: "9-0", gap: { after: "3-0", reason: "trimmed" } });
  await turn();
  assert.equal(last().url.searchParams.get("after"), "9-0", "else the gap were told again and again");
  assert.equal(watch.state.gaps, 1);
});

test("where nobody answers over HTTP either, sockets are tried again", async () => {
  FakeSocket.opens = false;
  const watch = http().watch("1");
  await turn();
  FakeSocket.last.ends(1006);
  await pass(250);
  FakeSocket.last.ends(1006);
  await pass(450);
  last().fail(new TypeError("fetch failed"));
  await turn();
  assert.equal(last().path, "/live/operations/1/events", "a proxy may refuse event streams alone");
  last().fail(new TypeError("fetch failed"));
  await turn();
  assert.equal(watch.state.connection, "waiting");
  await pass(2_000);
  assert.equal(FakeSocket.all.length, 3);
  FakeSocket.opens = true;
  FakeSocket.last.open();
  FakeSocket.last.says(state("1"));
  assert.equal(watch.state.connection, "live");
});

test("a socket is tried now and then, and takes over with the cursors", async (t) => {
  t.mock.method(Math, "random", () => 0.5);
  FakeSocket.opens = false;
  const watch = http().watch("1");
  await turn();
  FakeSocket.last.ends(1006);
  await pass(250);
  FakeSocket.last.ends(1006);
  await pass(450);
  last().stream(state("1"), entry("1", "7-0"));
  await pass(16_000, 500);
  assert.equal(FakeSocket.all.length, 3);
  FakeSocket.last.ends(1006); // not yet
  last().says(entry("1", "8-0"));
  await pass(31_000, 500);
  assert.equal(FakeSocket.all.length, 4);
  FakeSocket.last.open();
  assert.deepEqual(FakeSocket.last.sent, [{ type: "ping" }]);
  FakeSocket.last.says({ type: "pong" });
  assert.ok(last().signal.aborted);
  assert.deepEqual(FakeSocket.last.asked("watch"), [{ type: "watch", operation: "1", last_event_id: "8-0" }]);
  FakeSocket.last.says(state("1"), entry("1", "9-0"));
  assert.equal(watch.state.entries, 3);
});

test("more operations than a browser has connections poll in turn", async () => {
  const tidegate = polls();
  const watches = Array.from({ length: 10 }, (_, i) => tidegate.watch(`${i}`));
  await turn();
  assert.equal(requests.length, 4);
  for (let answered = 0; answered < 20; answered++) {
    const request = requests[answered]!;
    assert.equal(request.url.searchParams.get("wait"), "1");
    request.json({ events: [], cursor: "1-0", more: false, gap: null, status: "running", finished: false });
    await turn();
    assert.equal(requests.filter(({ signal }) => !signal.aborted).length - answered - 1, 4);
  }
  assert.deepEqual(new Set(watches.map(({ state: { connection } }) => connection)), new Set(["live"]));
});

test("closing ends the requests", async () => {
  const tidegate = streams();
  tidegate.watch("1").close();
  tidegate.watch("2");
  await pass(200);
  const [first, second] = requests;
  assert.deepEqual([first!.signal.aborted, second!.signal.aborted], [true, false]);
  tidegate.close();
  await pass(200);
  assert.ok(second!.signal.aborted);
  await pass(30_000, 1_000);
  assert.equal(requests.length, 2);
});
