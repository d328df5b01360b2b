/** Asking to cancel: what is sent, which gateway is asked, and what an answer becomes. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { cancel } from "../src/cancel.js";
import type { ClientOptions } from "../src/options.js";
import { client } from "./fakes.js";

interface Sent {
  readonly url: string;
  readonly init: RequestInit;
}

/** A client whose requests are answered in turn; an error is a network that fails. */
function answering(answers: (Response | Error)[], options: ClientOptions = {}) {
  const sent: Sent[] = [];
  const doFetch = (async (url: URL, init: RequestInit) => {
    sent.push({ url: String(url), init });
    const answer = answers.shift()!;
    if (answer instanceof Error) throw answer;
    return answer;
  }) as unknown as typeof fetch;
  return { sent, made: client({ fetch: doFetch, ...options }) };
}

const json = (body: unknown, status = 202) => new Response(JSON.stringify(body), { status });

test("a request with a token, and its answer", async () => {
  const { sent, made } = answering([json({ operation: "a:1", status: "cancelling", id: "5-0", repeated: false })], {
    token: async () => "t.1",
    credentials: "include",
  });
  assert.deepEqual(await cancel(made, "a:1"), { id: "5-0", repeated: false });
  assert.equal(sent[0]!.url, "https://gateway.test/live/operations/a%3A1/cancel");
  const { method, headers, credentials, cache } = sent[0]!.init;
  assert.deepEqual(
    { method, headers, credentials, cache },
    { method: "POST", headers: { Authorization: "Bearer t.1" }, credentials: "include", cache: "no-store" },
  );
});

test("another gateway is asked where one does not answer, or cannot now", async () => {
  const url = ["ws://one.test", "http://two.test/x/?y#z", "https://three.test"];
  const { sent, made } = answering([new TypeError("gone"), json({}, 503), json({ id: "5-0", repeated: true })], { url });
  assert.deepEqual(await cancel(made, "1"), { id: "5-0", repeated: true });
  assert.deepEqual(
    sent.map((one) => one.url),
    ["http://one.test/operations/1/cancel", "http://two.test/x/operations/1/cancel", "https://three.test/operations/1/cancel"],
  );
});

for (const [status, name, code] of [
  [400, "InvalidRequest", "bad_request"],
  [401, "SignInRequired", "token_missing"],
  [403, "TidegateError", "cancel_forbidden"],
  [404, "OperationNotFound", "not_found"],
  [409, "TidegateError", "already_ended"],
  [429, "TidegateError", "too_many_cancels"],
] as const)
  test(`a refusal with ${status} is final`, async () => {
    const { sent, made } = answering([json({ code, detail: "no", retry: status === 429 }, status), json({})], {
      url: ["https://one.test", "https://two.test"],
    });
    await assert.rejects(cancel(made, "1"), { name, code, message: "no", retry: status === 429, close: 4000 + status });
    assert.equal(sent.length, 1);
  });

test("answers that are none of the gateway's", async () => {
  for (const answer of [new Response("<html>", { status: 403 }), json([7], 500), json({ detail: 7, code: {} }, 400)]) {
    const { made } = answering([answer]);
    await assert.rejects(cancel(made, "1"), { code: "refused", message: `the gateway answered ${answer.status}` });
  }
  const { made } = answering([new TypeError("gone")]);
  await assert.rejects(cancel(made, "1"), { name: "GatewayUnreachable", retry: true });
});

test("who gives up asks nobody else", async () => {
  const given = new AbortController();
  const { sent, made } = answering([new TypeError("gone")], { url: ["https://one.test", "https://two.test"] });
  given.abort(new Error("enough"));
  await assert.rejects(cancel(made, "1", { signal: given.signal }), { message: "enough" });
  assert.equal(sent.length, 0);
});
