/**
 * What `client.watch(id)` returns: the state, events, and frames to iterate over.
 *
 * | event    | when                                                             |
 * |----------|------------------------------------------------------------------|
 * | `frame`  | an entry, a gap, ...; `event.frame`                              |
 * | `change` | `state` is another one; once in a frame of the screen at most    |
 * | `end`    | the operation has ended, or the watch was closed                 |
 * | `error`  | a gateway refuses, or none answers; `event.error`                |
 */

import type { TidegateError } from "./errors.js";
import type { Operation, WatchState } from "./operation.js";
import { CHANGE_MS, MAX_BUFFERED } from "./options.js";
import { isEntry } from "./state.js";
import { type Json, text } from "./values.js";

/** An entry, or a frame about entries: `current_state`, `gap`, `skipped`, `stale`, `live`. */
export interface Frame {
  readonly operation: string;
  readonly type: string;
  /** The entry's id; null for a frame about entries. An entry may have any type. */
  readonly id: string | null;
  /** With `id` it names an entry for ever: a log that began again may repeat ids. */
  readonly epoch: number;
  readonly data: unknown;
  readonly timestamp: unknown;
}

export class WatchEvent extends Event {
  declare readonly frame: Frame | null;
  declare readonly error: TidegateError | null;

  constructor(type: string, frame: Frame | null = null, error: TidegateError | null = null) {
    super(type);
    this.frame = frame;
    this.error = error;
  }
}

export class Watch extends EventTarget implements AsyncIterable<Frame> {
  /** The last state, when the operation has ended; rejected as iterating is. */
  readonly done: Promise<WatchState>;
  readonly #operation: Operation;
  readonly #frames = new Set<Frames>();
  readonly #types = new Set<string>();
  #settle!: (error: unknown) => void;
  #over = false;
  #last: WatchState | null = null;
  #unlisten: (() => void) | undefined;

  /** @internal */
  constructor(operation: Operation, signal: AbortSignal | undefined) {
    super();
    this.#operation = operation;
    this.done = new Promise((ok, fail) => (this.#settle = (error) => (error ? fail(error) : ok(this.state))));
    this.done.catch(() => {}); // whoever does not ask need not be told
    operation.watches.add(this);
    const abort = () => this.#finish(signal!.reason, true);
    if (signal?.aborted) queueMicrotask(abort);
    else if (signal) {
      signal.addEventListener("abort", abort);
      this.#unlisten = () => signal.removeEventListener("abort", abort);
    }
  }

  get operation(): string {
    return this.#operation.id;
  }

  /** All that is known; another object when something has changed. */
  get state(): WatchState {
    return this.#last ?? this.#operation.state;
  }

  /** Leave. The operation goes on without us. Safe to call twice. */
  close(): void {
    this.#finish(null, true);
  }

  /**
   * The frames from now on; where some have come already, behind a `current_state` of now.
   * Leaving the loop closes the watch.
   */
  [Symbol.asyncIterator](): AsyncIterator<Frame> {
    const frames = createFrames(() => {
      this.#frames.delete(frames);
      this.close();
    });
    const { status } = this.state;
    if (this.#operation.told) frames.push(this.#frame({ type: "current_state", data: { status } }));
    this.#frames.add(frames);
    if (this.#over) frames.end(this.state.failure);
    return frames;
  }

  /** @internal */
  push(raw: Json): void {
    const frame = this.#frame(raw);
    for (const frames of this.#frames) frames.push(frame);
    this.#dispatch("frame", frame);
  }

  /** @internal */
  changed(): void {
    const { changed } = this.#operation.owner;
    if (!changed.size) setTimeout(() => [...changed].forEach((watch) => watch.#tell()), CHANGE_MS);
    changed.add(this);
  }

  override addEventListener(...args: Parameters<EventTarget["addEventListener"]>): void {
    this.#types.add(args[0]);
    super.addEventListener(...args);
  }

  /** An event costs more than the frame it tells of: none that nobody has ever listened to. */
  #dispatch(...event: ConstructorParameters<typeof WatchEvent>): void {
    if (this.#types.has(event[0])) this.dispatchEvent(new WatchEvent(...event));
  }

  /** @internal The operation is over. */
  end(): void {
    this.#finish(this.state.failure, false);
  }

  #frame(raw: Json): Frame {
    const { epoch } = this.#operation.folded;
    const id = isEntry(raw) ? text(raw.id) : null;
    const { data = {}, timestamp = null } = raw;
    return { operation: this.operation, type: text(raw.type) ?? "", id, epoch, data, timestamp };
  }

  #tell(): void {
    this.#operation.owner.changed.delete(this);
    this.#dispatch("change");
  }

  #finish(error: unknown, left: boolean): void {
    if (this.#over) return;
    this.#over = true;
    this.#unlisten?.();
    if (left) {
      const { state } = this.#operation;
      this.#last = state.connection === "ended" ? state : { ...state, connection: "closed" };
    }
    this.#operation.release(this);
    for (const frames of this.#frames) frames.end(error);
    this.#tell();
    this.#settle(error);
    const failure = left ? null : this.state.failure;
    this.#dispatch(failure ? "error" : "end", null, failure);
  }
}

interface Frames extends AsyncIterator<Frame> {
  push(frame: Frame): void;
  end(error: unknown): void;
}

const DONE = { value: undefined, done: true } as const;

/** One iteration; what its reader has not taken waits here, up to a bound. */
function createFrames(leave: () => void): Frames {
  const waiting: Frame[] = [];
  let skipped: Frame | null = null;
  let count = 0;
  let wake: (() => void) | undefined;
  let isEnded = false;
  let reason: unknown;

  return {
    /** A reader that is too slow loses superseded progress first, and is told how much. */
    push(frame) {
      waiting.push(frame);
      if (waiting.length > MAX_BUFFERED) {
        const at = waiting.findIndex(({ id, type }) => id && type === "progress");
        waiting.splice(Math.max(0, at), 1);
        skipped = { ...frame, type: "skipped", id: null, data: { count: ++count }, timestamp: null };
      }
      wake?.();
    },

    end(error) {
      isEnded = true;
      reason = error;
      wake?.();
    },

    async next() {
      for (;;) {
        const value = skipped ?? waiting.shift();
        skipped = null;
        count = 0;
        if (value) return { value, done: false };
        if (isEnded) {
          const error = reason;
          reason = null;
          if (error) throw error;
          return DONE;
        }
        await new Promise<void>((go) => (wake = go));
      }
    },

    async return() {
      isEnded = true;
      waiting.length = 0;
      leave();
      return DONE;
    },
  };
}
