/** What a client is told, and what each bound is. */

import type { Frame } from "./watch.js";

/** A token, or a function that gives one; it is called for each connection and before the end. */
export type TokenSource = string | (() => string | Promise<string>);

export interface ClientOptions {
  /** A gateway's address, or several replicas'. The page's own host if nothing is said. */
  readonly url?: string | readonly string[];
  readonly token?: TokenSource;
  /** Give up when no gateway answers for so long. A page waits for ever if nothing is said. */
  readonly patienceMs?: number;
  /** Cookies for the HTTP fall-back on another origin. */
  readonly credentials?: RequestCredentials;
  /** What is tried, the best first. */
  readonly transports?: readonly Transport[];
  /** Write to the console what connections do; localStorage `tidegate.debug` does the same. */
  readonly debug?: boolean;
  /** For environments without one, such as Node 20. */
  readonly WebSocket?: typeof WebSocket;
  readonly fetch?: typeof fetch;
  /** Ends all of it. */
  readonly signal?: AbortSignal;
}

export type Transport = "websocket" | "sse" | "poll";

export interface WatchOptions {
  /** Start behind this entry. */
  readonly lastEventId?: string;
  /** Without it, how much history comes first; the newest 100 if nothing is said. */
  readonly history?: number | "all" | "none";
  /** Called with each frame: cheaper than an event, where there are many. */
  readonly onFrame?: (frame: Frame) => void;
  /** Ends this watch; iterating throws its reason. */
  readonly signal?: AbortSignal;
}

/** A connection that does not open within this time is tried elsewhere. */
export const OPEN_TIMEOUT_MS = 10_000;
/** A quiet connection is asked whether it is there, and given up without an answer. */
export const PING_MS = 10_000;
export const PONG_MS = 5_000;
/** A timer so late means that the page stood still: it was frozen, or the machine slept. */
export const STOOD_STILL_MS = 5_000;
/** Behind an HTTP fall-back, a socket is tried again after the first, at most after the second. */
export const PROBE_FIRST_MS = 15_000;
export const PROBE_MAX_MS = 300_000;
/** So many sockets in a row that brought nothing, and HTTP is tried. */
export const SILENT_SOCKETS = 2;
/** Browsers have six HTTP/1.1 connections for a host; two are the page's own. */
export const LANES = 4;
export const LONG_POLL_S = 25;
export const PAGE_LIMIT = 500;
/** A gateway sends a heart-beat every 15 s over SSE. */
export const SSE_SILENCE_MS = 45_000;
/** The operations of one socket: the gateway's default; it says so where it is less. */
export const MAX_WATCHES = 128;
/**
 * What is said on a socket: a gateway takes 50 messages a second and one more for each watch, in
 * which a new token counts as 20. One in so many ms, and 100 at once, are never too many.
 */
export const MESSAGE_MS = 22;
export const BURST_MS = 100 * MESSAGE_MS;
export const PACE_MS = 100;
/** Frames that wait for whoever iterates over a watch. */
export const MAX_BUFFERED = 1_000;
/** `change` events are no more frequent. */
export const CHANGE_MS = 16;
/** A watch without a handle stays for so long: frameworks unmount and mount in one turn. */
export const LINGER_MS = 100;
/** A token that ends sooner than this is not asked for again and again. */
export const REFRESH_MIN_MS = 5_000;
export const TOKEN_TIMEOUT_MS = 30_000;
