/**
 * `@tidegate/client/feed`: the operations of a feed, such as those of one user, as a live list with
 * the state of each. A feed is watched like an operation, and so is each operation in it, all over
 * the client's socket.
 *
 *     listed --watched--> in the list --ended, and so long ago--> out of it
 *                                     --newer ones than `limit`, or refused--> out of it
 */

import { InvalidRequest, type TidegateClient, type TidegateError, type Watch, type WatchState } from "./index.js";

/** One socket has room for so many, and for the feed. */
const LIMIT_MAX = 100;
const KEEP_ENDED_MS = 60_000;
/** `change` events are no more frequent. */
const CHANGE_MS = 16;
const TITLE_MAX_CHARS = 200;
/** The longest that `setTimeout` takes. */
const TIMER_MAX_MS = 2 ** 31 - 1;

export interface FeedOptions {
  /** How many operations at most, the newest; 100 if nothing is said, which is the maximum. */
  readonly limit?: number;
  /** How long an operation that has ended stays; a minute if nothing is said. */
  readonly keepEndedMs?: number;
  readonly signal?: AbortSignal;
}

export interface FeedOperation {
  readonly operation: string;
  /** Its own title, or that of the feed. */
  readonly title: string;
  /** Unix time in ms. */
  readonly listedAt: number;
  readonly state: WatchState;
}

interface Item {
  readonly operation: string;
  title: string;
  listedAt: number;
  watch: Watch;
}

/** Events: `change` when the list is another one, `error` when the feed may not be watched. */
export class Feed extends EventTarget {
  /** Why the feed is not watched. */
  failure: TidegateError | null = null;
  /** By operation; the newest is the last. */
  readonly #items = new Map<string, Item>();
  readonly #client: TidegateClient;
  readonly #watch: Watch;
  readonly #limit: number;
  readonly #keepEndedMs: number;
  #list: readonly FeedOperation[] | null = null;
  #telling: ReturnType<typeof setTimeout> | undefined;
  #leaving: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  constructor(client: TidegateClient, feed: string, options: FeedOptions) {
    super();
    const { limit = LIMIT_MAX, keepEndedMs = KEEP_ENDED_MS, signal } = options;
    if (!Number.isInteger(limit) || limit < 1 || limit > LIMIT_MAX)
      throw new InvalidRequest(`\`limit\` must be from 1 to ${LIMIT_MAX}`, "bad_request");
    this.#client = client;
    this.#limit = limit;
    this.#keepEndedMs = keepEndedMs;
    this.#watch = client.watch(feed, { history: limit });
    this.#watch.addEventListener("frame", ({ frame }: { frame?: unknown } & Event) => this.#heard(frame));
    this.#watch.addEventListener("error", () => {
      this.failure = this.#watch.state.failure;
      this.dispatchEvent(new Event("error"));
    });
    signal?.addEventListener("abort", () => this.close(), { once: true });
    if (signal?.aborted) this.close();
  }

  /** Newest first; another array when something has changed. */
  get operations(): readonly FeedOperation[] {
    return (this.#list ??= Object.freeze(
      [...this.#items.values()].reverse().map(({ operation, title, listedAt, watch }) => {
        const { state } = watch;
        return Object.freeze({ operation, title: state.title || title || operation, listedAt, state });
      }),
    ));
  }

  /** Leave all of it. Safe to call twice. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#telling);
    clearTimeout(this.#leaving);
    this.#watch.close();
    for (const { watch } of this.#items.values()) watch.close();
  }

  #heard(frame: unknown): void {
    const { type, id, data } = frame as { type: string; id: string | null; data: unknown };
    if (this.#isClosed || type !== "listed" || id === null || typeof data !== "object" || data === null) return;
    const { operation, title } = data as { operation?: unknown; title?: unknown };
    if (typeof operation !== "string") return;
    const known = this.#items.get(operation);
    this.#items.delete(operation); // what is listed again is the newest
    const ms = Number(id.split("-")[0]);
    const listedAt = ms > 1e12 && ms < 8e15 ? ms : Date.now();
    const shown = typeof title === "string" ? title.slice(0, TITLE_MAX_CHARS) : "";
    let watch = known?.watch;
    if (!watch || /^(?:ended|failed|closed)$/.test(watch.state.connection)) {
      watch?.close();
      try {
        watch = this.#client.watch(operation, { history: "none" });
      } catch {
        return this.#changed(); // no id of an operation
      }
      watch.addEventListener("change", () => this.#changed());
    }
    this.#items.set(operation, { operation, title: shown || (known?.title ?? ""), listedAt, watch });
    this.#changed();
  }

  #changed(): void {
    if (this.#isClosed) return;
    this.#list = null;
    this.#telling ??= setTimeout(() => {
      this.#telling = undefined;
      this.#makeRoom();
      this.dispatchEvent(new Event("change"));
    }, CHANGE_MS);
  }

  /** Those above the limit, those that were refused, and those that have ended and had their time. */
  #makeRoom(): void {
    clearTimeout(this.#leaving);
    const now = Date.now();
    let over = this.#items.size - this.#limit;
    let next = Infinity;
    for (const { operation, watch, listedAt } of [...this.#items.values()]) {
      const { finished, endedAt, updatedAt, connection } = watch.state;
      const left = finished ? (endedAt ?? updatedAt ?? listedAt) + this.#keepEndedMs - now : Infinity;
      if (over-- > 0 || left <= 0 || connection === "failed") {
        this.#items.delete(operation);
        this.#list = null;
        watch.close();
      } else next = Math.min(next, left);
    }
    if (next < Infinity) this.#leaving = setTimeout(() => this.#changed(), Math.min(next, TIMER_MAX_MS));
  }
}

/** Watch a feed. Throws an `InvalidRequest`. */
export function watchFeed(client: TidegateClient, feed: string, options: FeedOptions = {}): Feed {
  return new Feed(client, feed, options);
}
