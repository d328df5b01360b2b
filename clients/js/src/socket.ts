/**
 * Many operations on one WebSocket. It asks a quiet connection whether it is still there, since a
 * browser tells nothing of one that is dead but not closed.
 */

import type { Operation } from "./operation.js";
import { BURST, MESSAGES_PER_S, OPEN_TIMEOUT_MS, PACE_MS, PING_MS, PONG_MS, STOOD_STILL_MS } from "./options.js";
import { isEntry } from "./state.js";
import { type Json, object, parse } from "./values.js";

/** A way to the gateway. Whatever happens on it is told to its host, until it is closed. */
export interface Link {
  readonly isSocket?: boolean;
  /** Who is told; another host may take it over. */
  host: LinkHost;
  watch(operation: Operation): void;
  unwatch(operation: Operation): void;
  refresh?(token: string): void;
  /** Find out now whether it lives. */
  look?(): void;
  close(): void;
}

export interface LinkHost {
  /** What is sent now arrives. */
  opened(link: Link): void;
  frame(link: Link, frame: Json, operation?: Operation): void;
  /** `silent`: it never brought a frame. */
  lost(link: Link, code: number, reason: string, silent: boolean): void;
}

const PROTOCOL = "tidegate.v1";
export const ABNORMAL = 1006;

/** Throws where a token cannot be a sub-protocol, or a page may not connect to the address. */
export function openSocket(Socket: typeof WebSocket, base: URL, token: string | undefined, host: LinkHost): Link {
  const url = new URL(`${base}ws`);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new Socket(url, token ? [PROTOCOL, `access_token.${token}`] : PROTOCOL);
  /** Operations that were left: what comes of them up to `unwatched` belongs to the watch before. */
  const left = new Map<unknown, number>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let due = 0;
  let asked = false;
  let heardAt = 0;
  let silent = true;

  const send = (message: Json) => {
    if (socket.readyState === 1) socket.send(JSON.stringify(message));
  };
  /** A gateway closes what says too much at once. */
  const waiting: Json[] = [];
  let allowed = BURST;
  let since = 0;
  let pace: ReturnType<typeof setTimeout> | undefined;
  const sendPaced = (message?: Json) => {
    if (socket.readyState !== 1) return; // once it is open, all is asked for
    if (message) waiting.push(message);
    const now = Date.now();
    allowed = Math.min(BURST, allowed + ((now - since) * MESSAGES_PER_S) / 1000);
    since = now;
    while (allowed >= 1 && waiting[0]) {
      allowed--;
      send(waiting.shift()!);
    }
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
    if (socket.readyState !== 1) return;
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
    isSocket: true,
    host,
    watch({ id, history, folded: { cursor } }) {
      // What is undefined is not written.
      sendPaced({ type: "watch", operation: id, last_event_id: cursor ?? undefined, history: cursor ? undefined : history });
    },
    unwatch({ id }) {
      left.set(id, (left.get(id) ?? 0) + 1);
      sendPaced({ type: "unwatch", operation: id });
    },
    refresh(token) {
      send({ type: "refresh", token });
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
    const count = left.get(operation);
    if (!count) link.host.frame(link, frame);
    else if (!isEntry(frame) && (type === "unwatched" || object(frame.data).code === "not_watched")) {
      left.delete(operation);
      if (count > 1) left.set(operation, count - 1);
    }
  };
  return link;
}
