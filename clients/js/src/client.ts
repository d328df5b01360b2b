/** The client: one for a page. It shares sockets among operations, and operations among watches. */

import { listen } from "./environment.js";
import { check } from "./errors.js";
import { createLine, type Line, type LineOwner } from "./line.js";
import { Operation, type OperationOwner } from "./operation.js";
import type { ClientOptions, Transport, WatchOptions } from "./options.js";
import { position } from "./values.js";
import { Watch } from "./watch.js";

const OPERATION_ID = /^\w[\w.:@~+=-]{0,127}$/;
const DEBUG_KEY = "tidegate.debug";

export class TidegateClient implements LineOwner, OperationOwner {
  readonly options: ClientOptions;
  /** @internal */
  readonly changed = new Set<Watch>();
  /** @internal */
  readonly bases: readonly URL[];
  /** @internal */
  readonly ways: readonly Transport[];
  private readonly shared = new Map<string, Operation>();
  private readonly lines: Line[] = [];
  private readonly unlisten: () => void;
  private over = false;

  constructor(options: ClientOptions = {}) {
    this.options = options;
    const { url = globalThis.location?.origin, signal } = options;
    this.bases = [url ?? []].flat().map(baseOf);
    check(this.bases.length, "no `url`");
    const known = options.WebSocket ?? globalThis.WebSocket;
    this.ways = (options.transports ?? ["websocket", "sse", "poll"]).filter(
      (transport) => transport !== "websocket" || known,
    );
    check(this.ways.length, "no transport");
    this.unlisten = listen(
      () => this.lines.forEach((line) => line.wake()),
      () => this.lines.forEach((line) => line.sleep()),
    );
    signal?.addEventListener("abort", () => this.close());
    if (signal?.aborted) this.close();
  }

  /**
   * Watch an operation. Watches of one operation share what is received; `lastEventId` and `history`
   * are those of the first.
   */
  watch(operation: string, options: WatchOptions = {}): Watch {
    const { lastEventId } = options;
    check(!this.over, "client is closed", "closed");
    check(OPERATION_ID.test(operation), `${operation} is no operation id`);
    check(lastEventId === undefined || position(lastEventId), "`lastEventId` is no id");
    let shared = this.shared.get(operation);
    if (!shared) {
      shared = new Operation(operation, options, this);
      this.shared.set(operation, shared);
      this.place(shared);
    }
    return new Watch(shared, options);
  }

  /** Leave everything. Safe to call twice. */
  close(): void {
    this.over = true;
    this.unlisten();
    this.shared.forEach(({ watches }) => watches.forEach((watch) => watch.close()));
  }

  /** @internal */
  forget({ id }: Operation): void {
    this.shared.delete(id);
  }

  /** @internal */
  place(operation: Operation): void {
    let line = this.lines.find((one) => one.hasRoom());
    if (!line) this.lines.push((line = createLine(this)));
    line.carry(operation);
  }

  /** @internal */
  log(...words: unknown[]): void {
    try {
      if (this.options.debug || localStorage.getItem(DEBUG_KEY)) console.debug("[tidegate]", ...words);
    } catch {
      // an environment without storage
    }
  }
}

/** Throws a TypeError for what is no URL. */
function baseOf(url: string): URL {
  const base = new URL(url.replace(/^ws/, "http"), globalThis.location?.href);
  check(/^https?:$/.test(base.protocol), `${url} is no http address`);
  base.search = base.hash = "";
  base.pathname = base.pathname.replace(/\/*$/, "/");
  return base;
}
