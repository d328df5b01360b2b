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
import { CHANGE_MS, MAX_BUFFERED, type WatchOptions } from "./options.js";
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
  private readonly shared: Operation;
  private readonly hear: WatchOptions["onFrame"];
  private readonly readers = new Set<Frames>();
  /** Those that somebody has ever listened to. */
  private readonly types: Record<string, boolean> = {};
  private settle!: (error: unknown) => void;
  private over = false;
  private last: WatchState | undefined;
  private unlisten: AbortController | undefined;

  /** @internal */
  constructor(operation: Operation, { onFrame, signal }: WatchOptions) {
    super();
    this.hear = onFrame;
    this.shared = operation;
    this.done = new Promise((ok, fail) => (this.settle = (error) => (error ? fail(error) : ok(this.state))));
    this.done.catch(() => {}); // whoever does not ask need not be told
    operation.watches.add(this);
    const abort = () => this.leave(signal!.reason, true);
    if (signal?.aborted) queueMicrotask(abort);
    else signal?.addEventListener("abort", abort, (this.unlisten = new AbortController()));
  }

  get operation(): string {
    return this.shared.id;
  }

  /** All that is known; another object when something has changed. */
  get state(): WatchState {
    return this.last ?? this.shared.state;
  }

  /** Leave. The operation goes on without us. Safe to call twice. */
  close(): void {
    this.leave(null, true);
  }

  /**
   * The frames from now on; where some have come already, behind a `current_state` of now.
   * Leaving the loop closes the watch.
   */
  [Symbol.asyncIterator](): AsyncIterator<Frame> {
    const frames = createFrames(() => this.close());
    const { status } = this.state;
    if (this.shared.told) frames.push(this.frameOf({ type: "current_state", data: { status } }));
    this.readers.add(frames);
    if (this.over) frames.end(this.state.failure);
    return frames;
  }

  /** @internal The state is another one, by this frame or without one that is to be shown. */
  changed(raw?: Json): void {
    const { changed } = this.shared.owner;
    if (this.types.change) {
      if (!changed.size) setTimeout(() => [...changed].forEach((watch) => watch.tell()), CHANGE_MS);
      changed.add(this);
    }
    if (!raw) return;
    const frame = this.frameOf(raw);
    try {
      this.hear?.(frame);
    } catch (error) {
      queueMicrotask(() => {
        throw error; // to whom errors of listeners go
      });
    }
    this.readers.forEach((frames) => frames.push(frame));
    this.dispatch("frame", frame);
  }

  override addEventListener(...args: Parameters<EventTarget["addEventListener"]>): void {
    this.types[args[0]] = true;
    super.addEventListener(...args);
  }

  /** An event costs more than the frame it tells of: none that nobody has ever listened to. */
  private dispatch(type: string, frame?: Frame, error?: TidegateError | null): void {
    if (this.types[type]) this.dispatchEvent(new WatchEvent(type, frame, error));
  }

  /** @internal The operation is over. */
  end(): void {
    this.leave(this.state.failure, false);
  }

  private frameOf(raw: Json): Frame {
    const { epoch } = this.shared.frames.head;
    const id = isEntry(raw) ? text(raw.id) : null;
    const { data = {}, timestamp = null } = raw;
    return { operation: this.operation, type: text(raw.type) ?? "", id, epoch, data, timestamp };
  }

  private tell(): void {
    this.shared.owner.changed.delete(this);
    this.dispatch("change");
  }

  private leave(error: unknown, left: boolean): void {
    if (this.over) return;
    this.over = true;
    this.unlisten?.abort();
    if (left) {
      const { state } = this.shared;
      this.last = state.connection === "ended" ? state : { ...state, connection: "closed" };
    }
    this.shared.release(this);
    this.readers.forEach((frames) => frames.end(error));
    this.tell();
    this.settle(error);
    const failure = left ? null : (error as TidegateError);
    this.dispatch(failure ? "error" : "end", undefined, failure);
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
  let ended: { error?: unknown } | undefined;

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
      ended = { error };
      wake?.();
    },

    async next() {
      for (;;) {
        const value = skipped ?? waiting.shift();
        skipped = null;
        count = 0;
        if (value) return { value, done: false };
        if (ended) {
          const { error } = ended;
          ended = {};
          if (error) throw error;
          return DONE;
        }
        await new Promise<void>((go) => (wake = go));
      }
    },

    async return() {
      waiting.length = 0;
      leave();
      return DONE;
    },
  };
}
