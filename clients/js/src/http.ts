/**
 * Where a proxy lets no WebSocket through: server-sent events, read with `fetch` so that a token is
 * a header, and long polls where a proxy holds those back. One request for each operation, as many
 * at a time as a browser has connections to spare; where there are more, all of them poll in turn.
 *
 * Now and then a socket is tried, which takes over once it has brought something. Loaded only when
 * it is needed.
 */

import { answered } from "./answers.js";
import type { Decision } from "./course.js";
import type { Line, LineOwner } from "./line.js";
import type { Operation } from "./operation.js";
import {
  LANES,
  LONG_POLL_S,
  OPEN_TIMEOUT_MS,
  PAGE_LIMIT,
  PROBE_FIRST_MS,
  PROBE_MAX_MS,
  SSE_SILENCE_MS,
} from "./options.js";
import { ABNORMAL, type Link, openSocket } from "./socket.js";
import { isEntry } from "./state.js";
import { readToken } from "./token.js";
import { type Json, object, parse } from "./values.js";

export function openHttp(owner: LineOwner, base: URL, host: Line): Link {
  const running = new Map<Operation, AbortController>();
  const queue: (() => void)[] = [];
  let heldBack = !owner.ways.includes("sse");
  let polls = heldBack;
  let busy = 0;
  let isClosed = false;

  const follow = async (operation: Operation, { signal }: AbortController) => {
    const request = { after: "" };
    let decision: Decision | null = null;
    while (!decision) {
      await enter();
      try {
        if (signal.aborted) return;
        const streams = !polls && running.size <= LANES;
        decision = await (streams ? stream(operation, signal) : poll(operation, signal, request));
      } catch (error) {
        if (!signal.aborted) host.lost(link, ABNORMAL, String(error), false);
        return;
      } finally {
        leave();
      }
      if (signal.aborted) return;
    }
    // What comes back is watched again when it is time.
    host.decided(operation, decision, "");
  };

  /** One event stream to its end; null when it has to be tried in another way. */
  const stream = async (operation: Operation, ended: AbortSignal): Promise<Decision | null> => {
    const { cursor } = operation.frames.head;
    const query: Record<string, string> = {};
    if (cursor) query.last_event_id = cursor;
    else if (operation.history !== undefined) query.history = String(operation.history);
    const given = new AbortController();
    const end = () => given.abort();
    ended.addEventListener("abort", end);
    let silent = true;
    let timer = setTimeout(end, OPEN_TIMEOUT_MS);
    try {
      const answer = await get(`sse/operations/${encodeURIComponent(operation.id)}`, query, given.signal);
      if (answer.status === 204) return operation.course.closed(1000);
      if (!answer.ok || !answer.body) {
        const decision = refused(operation, answer, object(parse(await answer.text())));
        // A gateway names its reason; a proxy that wants no event streams does not.
        return decision.do === "refuse" && !operation.course.errorCode && useNoStreams() ? null : decision;
      }
      const reader = answer.body.getReader();
      const decoder = new TextDecoder();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return operation.course.closed(ABNORMAL, operation.folded.ended);
        clearTimeout(timer);
        timer = setTimeout(end, SSE_SILENCE_MS);
        const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
        rest = lines.pop()!;
        for (const line of lines) {
          const frame = line.startsWith("data:") ? parse(line.slice(5).trim()) : null;
          if (!frame) continue;
          silent = false;
          if (frame.type === "end" && !isEntry(frame))
            return operation.course.closed(Number(object(frame.data).code), operation.folded.ended);
          host.received(link, frame, operation);
        }
      }
    } catch (error) {
      if (ended.aborted) throw error;
      // A stream that broke is one like any other. One that never brought anything is held back on
      // the way, or refused by a proxy in words that a page may not read, or nobody is there.
      if (!silent) return operation.course.closed(ABNORMAL, operation.folded.ended);
      heldBack ||= given.signal.aborted;
      if (!useNoStreams()) throw error;
      return null;
    } finally {
      clearTimeout(timer);
      ended.removeEventListener("abort", end);
      end();
    }
  };

  /** Poll instead, where that is allowed. */
  const useNoStreams = () => {
    owner.log("event streams do not come through");
    return (polls ||= owner.ways.includes("poll"));
  };

  /** One page, which waits for something to be in it; null when another is to follow. */
  const poll = async (operation: Operation, signal: AbortSignal, request: { after: string }) => {
    const wait = running.size > LANES ? 1 : LONG_POLL_S;
    const began = Date.now();
    const after = request.after || operation.frames.head.cursor;
    const query: Record<string, string> = { wait: String(wait), limit: String(PAGE_LIMIT) };
    if (after) query.after = after;
    const late = AbortSignal.timeout(wait * 1000 + OPEN_TIMEOUT_MS);
    const path = `operations/${encodeURIComponent(operation.id)}/events`;
    const answer = await get(path, query, AbortSignal.any([signal, late]));
    const refusal = answer.ok ? {} : object(parse(await answer.text()));
    // What an operation that has not begun is answered with when the time is over.
    const notBegun = answer.status === 404 && refusal.code === "no_stream";
    if (!answer.ok && !notBegun) return refused(operation, answer, refusal);
    // Sooner it is of a replica that is going away.
    if (notBegun && Date.now() - began < wait * 800) return operation.course.closed(ABNORMAL, operation.folded.ended);
    const page = notBegun ? {} : object(await answer.json());
    if (signal.aborted) return null;
    const tell = (frame: Json) => host.received(link, { ...frame, operation: operation.id }, operation);
    const events = Array.isArray(page.events) ? page.events : [];
    if (operation.state.connection !== "live") {
      const cursor = after || (events.length ? "0-0" : page.cursor);
      tell({ type: "current_state", cursor, data: { status: page.status } });
    }
    if (page.gap) tell({ type: "gap", data: page.gap });
    for (const event of events) tell(object(event));
    if (typeof page.cursor === "string") request.after = page.cursor;
    return page.finished === true && page.more !== true ? operation.course.closed(1000) : null;
  };

  const get = async (path: string, query: Record<string, string>, signal: AbortSignal): Promise<Response> => {
    const token = await readToken(owner.options.token);
    const url = new URL(path, base);
    url.search = String(new URLSearchParams(query));
    const headers: Record<string, string> = token ? { Authorization: `Bearer ${token}` } : {};
    const { fetch: doFetch = fetch, credentials = "same-origin" } = owner.options;
    return doFetch(url, { headers, signal, cache: "no-store", credentials });
  };

  const refused = ({ course, folded }: Operation, answer: Response, { code, detail }: Json): Decision => {
    course.heard({ type: "error", data: { code, message: detail } });
    return answered(course, answer.status, answer.headers.get("Retry-After"), folded.ended);
  };

  const enter = async () => {
    if (busy >= LANES) await new Promise<void>((go) => queue.push(go));
    else busy += 1;
  };
  const leave = () => {
    const next = queue.shift();
    if (next) next();
    else busy -= 1;
  };

  // -- back to sockets ----------------------------------------------------------------------------

  let probe: Link | undefined;
  let probing: ReturnType<typeof setTimeout> | undefined;
  let probeMs = PROBE_FIRST_MS;

  const probeLater = () => {
    polls = heldBack; // what was refused is tried again as well
    if (isClosed || !owner.ways.includes("websocket")) return;
    probing = setTimeout(tryASocket, probeMs * (0.75 + Math.random() / 2));
    probeMs = Math.min(probeMs * 2, PROBE_MAX_MS);
  };

  const tryASocket = async () => {
    try {
      const token = await readToken(owner.options.token);
      if (isClosed) return;
      probe = openSocket(owner.options.WebSocket ?? WebSocket, base, token, {
        opened: (socket) => socket.look?.(),
        received(socket) {
          probe = undefined;
          owner.log("a socket comes through");
          socket.host = host;
          host.takeOver(link, socket);
        },
        lost: probeLater,
      });
    } catch (error) {
      owner.log("no socket", error);
      probeLater();
    }
  };

  const link: Link = {
    host,
    ask(operation) {
      running.get(operation)?.abort();
      const mine = new AbortController();
      running.set(operation, mine);
      void follow(operation, mine);
    },
    unwatch(operation) {
      running.get(operation)?.abort();
      running.delete(operation);
    },
    close() {
      isClosed = true;
      clearTimeout(probing);
      probe?.close();
      for (const one of running.values()) one.abort();
      running.clear();
    },
  };
  probeLater();
  return link;
}
