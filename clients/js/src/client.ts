/** The client: one for a page. It shares sockets among operations, and operations among watches. */

import { listen } from "./environment.js";
import { InvalidRequest } from "./errors.js";
import { createLine, type Line, type LineOwner } from "./line.js";
import { Operation, type OperationOwner } from "./operation.js";
import type { ClientOptions, Transport, WatchOptions } from "./options.js";
import { position } from "./values.js";
import { Watch } from "./watch.js";

const OPERATION_ID = /^[A-Za-z0-9_][A-Za-z0-9_.:@~+=-]{0,127}$/;
const DEBUG_KEY = "tidegate.debug";

export class TidegateClient implements LineOwner, OperationOwner {
  readonly options: ClientOptions;
  /** @internal */
  readonly changed = new Set<Watch>();
  /** @internal */
  readonly bases: readonly URL[];
  /** @internal */
  readonly ways: readonly Transport[];
  readonly #operations = new Map<string, Operation>();
  readonly #lines: Line[] = [];
  readonly #unlisten: () => void;
  #closed = false;

  constructor(options: ClientOptions = {}) {
    this.options = options;
    const { url = globalThis.location?.origin, signal } = options;
    const urls = typeof url === "string" ? [url] : (url ?? []);
    this.bases = urls.map(baseOf);
    if (!this.bases.length) throw new InvalidRequest("`url` is missing", "bad_request");
    const known = options.WebSocket ?? globalThis.WebSocket;
    this.ways = (options.transports ?? ["websocket", "sse", "poll"]).filter(
      (transport) => transport !== "websocket" || known,
    );
    if (!this.ways.length) throw new InvalidRequest("no transport left", "bad_request");
    this.#unlisten = listen({
      wake: () => this.#lines.forEach((line) => line.wake()),
      sleep: () => this.#lines.forEach((line) => line.sleep()),
    });
    signal?.addEventListener("abort", () => this.close(), { once: true });
    if (signal?.aborted) this.close();
  }

  /**
   * Watch an operation. Watches of one operation share what is received; `lastEventId` and `history`
   * are those of the first.
   */
  watch(operation: string, options: WatchOptions = {}): Watch {
    const { lastEventId, signal } = options;
    if (this.#closed) throw new InvalidRequest("client is closed", "closed");
    if (!OPERATION_ID.test(operation)) throw new InvalidRequest(`${operation} is no operation id`, "bad_request");
    if (lastEventId !== undefined && position(lastEventId) < 0)
      throw new InvalidRequest("`lastEventId` is no id", "bad_request");
    let shared = this.#operations.get(operation);
    const isNew = !shared;
    if (!shared) {
      shared = new Operation(operation, options, this);
      this.#operations.set(operation, shared);
    }
    const watch = new Watch(shared, signal);
    if (isNew) this.place(shared);
    return watch;
  }

  /** Leave everything. Safe to call twice. */
  close(): void {
    this.#closed = true;
    this.#unlisten();
    for (const operation of [...this.#operations.values()]) for (const watch of [...operation.watches]) watch.close();
  }

  /** @internal */
  forget({ id }: Operation): void {
    this.#operations.delete(id);
  }

  /** @internal */
  place(operation: Operation): void {
    let line = this.#lines.find((one) => one.hasRoom());
    if (!line) this.#lines.push((line = createLine(this)));
    line.add(operation);
  }

  /** @internal */
  log(...words: unknown[]): void {
    if (this.options.debug || isDebugging()) console.debug("[tidegate]", ...words);
  }
}

/** Throws a TypeError for what is no URL. */
function baseOf(url: string): URL {
  const base = new URL(url.replace(/^ws/, "http"), globalThis.location?.href);
  if (!/^https?:$/.test(base.protocol)) throw new InvalidRequest(`${url} is no http or ws address`, "bad_request");
  base.search = base.hash = "";
  base.pathname = base.pathname.replace(/\/*$/, "/");
  return base;
}

function isDebugging(): boolean {
  try {
    return !!globalThis.localStorage?.getItem(DEBUG_KEY);
  } catch {
    return false; // a page without storage
  }
}
