/**
 * Gateways without a network: sockets and HTTP answers that a test holds in its hands, on a clock
 * that it moves. What is real is tried against a real gateway in tests/clients.
 */

import { mock } from "node:test";

import { TidegateClient } from "../src/client.js";
import type { ClientOptions } from "../src/options.js";
import type { Json } from "../src/values.js";

export const BASE = "https://gateway.test/live/";

/** The far end of a WebSocket. */
export class FakeSocket {
  static all: FakeSocket[] = [];
  /** Opens by itself in the next turn. */
  static opens = true;
  /** Answers pings. */
  static answers = false;
  readyState = 0;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly sent: Json[] = [];
  closedWith: number | null = null;
  readonly url: string;

  constructor(
    url: string | URL,
    readonly protocols: string | string[] = [],
  ) {
    this.url = String(url);
    FakeSocket.all.push(this);
    if (FakeSocket.opens) queueMicrotask(() => this.open());
  }

  static get last(): FakeSocket {
    return FakeSocket.all.at(-1)!;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  send(text: string): void {
    const message = JSON.parse(text) as Json;
    this.sent.push(message);
    if (message.type === "ping" && FakeSocket.answers) queueMicrotask(() => this.says({ type: "pong" }));
  }

  close(code: number): void {
    this.readyState = 3;
    this.closedWith = code;
  }

  /** The gateway sends. */
  says(...frames: Json[]): void {
    for (const frame of frames) this.onmessage?.({ data: JSON.stringify(frame) });
  }

  /** The gateway, or the network, closes. */
  ends(code: number, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  asked(type: string): Json[] {
    return this.sent.filter((message) => message.type === type);
  }
}

export function client(options: ClientOptions = {}): TidegateClient {
  return new TidegateClient({ url: BASE, WebSocket: FakeSocket as unknown as typeof WebSocket, ...options });
}

/** A clock for one test; what is due happens when `pass` says so. */
export function fresh(): void {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_795_000_000_000 });
  FakeSocket.all = [];
  FakeSocket.opens = true;
  FakeSocket.answers = false;
}

/** Let promises run. */
export async function turn(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
  await new Promise((go) => setImmediate(go));
}

/** Time passes in small steps, so that what is set off on the way is due too. */
export async function pass(ms: number, step = 100): Promise<void> {
  await turn();
  for (let left = ms; left > 0; left -= step) {
    mock.timers.tick(Math.min(step, left));
    await turn();
  }
}

export const state = (operation: string, status = "running", cursor = "0-0"): Json => ({
  type: "current_state",
  operation,
  cursor,
  data: { status },
});
export const entry = (operation: string, id: string, data: Json = {}, type = "progress"): Json => ({
  id,
  operation,
  timestamp: 0,
  type,
  data,
});
export const unwatched = (operation: string, code: number, name: string): Json => ({
  type: "unwatched",
  operation,
  data: { code, name },
});

/** A token that ends in so many seconds. */
export const jwt = (now: number, endsIn: number): string =>
  `h.${btoa(JSON.stringify({ exp: now / 1000 + endsIn }))}.s`.replace(/=/g, "");
