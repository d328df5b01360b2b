/**
 * Many operations on one WebSocket. It asks a quiet connection whether it is still there, since a
 * browser tells nothing of one that is dead but not closed.
 */

import type { Operation } from "./operation.js";
import { BURST_MS, MESSAGE_MS, OPEN_TIMEOUT_MS, PACE_MS, PING_MS, PONG_MS, STOOD_STILL_MS } from "./options.js";
import { isEntry } from "./state.js";
import { type Json, object, parse } from "./values.js";

/** A way to the gateway. Whatever happens on it is told to its host, until it is closed. */
export interface Link {
  /** Who is told; another host may take it over. */
  host: LinkHost;
  ask(operation: Operation): void;
  unwatch(operation: Operation): void;
  refresh?(token: string): void;
  /** Find out now whether it lives; of a socket only. */
  look?(): void;
  close(): void;
}

export interface LinkHost {
  /** What is sent now arrives. */
  opened(link: Link): void;
  received(link: Link, frame: Json, operation?: Operation): void;
  /** `silent`: it never brought a frame. */
  lost(link: Link, code: number, reason: string, silent: boolean): void;
}

const PROTOCOL = "tidegate.v1";
export const ABNORMAL = 1006;

/** Throws where a token cannot be a sub-protocol, or a page may not connect to the address. */
export function openSocket(Socket: typeof WebSocket, base: URL, token: string | undefined, host: LinkHost): Link {
  const socket = new Socket(`${base}ws`.replace("http", "ws"), token ? [PROTOCOL, `access_token.${token}`] : PROTOCOL);
  /** Operations that were left: what comes of them up to `unwatched` belongs to the watch before. */
  const left: unknown[] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;
  let due = 0;
  let asked = false;
  let heardAt = 0;
  let silent = true;

  const isOpen = () => socket.readyState === 1;
  const send = (message: Json) => socket.send(JSON.stringify(message));
  /** A gateway closes what says too much at once. */
  const waiting: Json[] = [];
  /** When the next one may be said; what was saved up is a burst at most. */
  let next = 0;
  let pace: ReturnType<typeof setTimeout> | undefined;
  const sendPaced = (message?: Json) => {
    if (!isOpen()) return; // once it is open, all is asked for
    if (message) waiting.push(message);
    const now = Date.now();
    for (next = Math.max(next, now - BURST_MS); next < now && waiting[0]; next += MESSAGE_MS) send(waiting.shift()!);
    clearTimeout(pace);
    if (waiting[0]) pace = setTimeout(sendPaced, PACE_MS);
  };
  const wait = (ms: number, then: () => void) => {
    clearTimeout(timer);
    due = Date.now() + ms;
    timer = setTimeout(then, ms);
  };
  const close = () => {
    clearTimeout(timer);
    clearTimeout(pace);
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
  };
  const lost = (code: number, reason: string) => {
    close();
    link.host.lost(link, code, reason, silent);
  };
  const look = () => {
    if (!isOpen()) return;
    asked = true;
    send({ type: "ping" });
    wait(PONG_MS, beat);
  };
  const beat = () => {
    const now = Date.now();
    const quiet = now - heardAt;
    // A timer for each frame would cost more than the frame.
    if (!asked && quiet < PING_MS) wait(PING_MS - quiet, beat);
    // A timer that comes late was not running: neither was what would have heard the answer.
    else if (asked && now - due < STOOD_STILL_MS) lost(ABNORMAL, "silent");
    else look();
  };
  const link: Link = {
    host,
    ask({ id, history, frames: { head } }) {
      const { cursor } = head;
      // What is undefined is not written.
      sendPaced({ type: "watch", operation: id, last_event_id: cursor ?? undefined, history: cursor ? undefined : history });
    },
    unwatch({ id }) {
      left.push(id);
      sendPaced({ type: "unwatch", operation: id });
    },
    refresh(token) {
      if (isOpen()) send({ type: "refresh", token });
    },
    look,
    close,
  };

  wait(OPEN_TIMEOUT_MS, () => lost(ABNORMAL, "no answer"));
  socket.onopen = () => {
    wait(PING_MS, beat);
    link.host.opened(link);
  };
  socket.onclose = ({ code, reason }) => lost(code, reason);
  socket.onmessage = ({ data }) => {
    silent = asked = false;
    heardAt = Date.now();
    const frame = parse(data);
    if (!frame) return;
    const { operation, type } = frame;
    const at = left.indexOf(operation);
    if (at < 0) link.host.received(link, frame);
    else if (!isEntry(frame) && (type === "unwatched" || object(frame.data).code === "not_watched")) left.splice(at, 1);
  };
  return link;
}
