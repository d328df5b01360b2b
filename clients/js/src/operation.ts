/**
 * One operation of a client, however many watches of it there are: its state, and how it ends.
 *
 *     connecting --current_state--> live --connection lost--> waiting --> connecting
 *     any of them --its end--> ended, --refused--> failed, --no watch left--> closed
 */

import { type Course, createCourse } from "./course.js";
import type { TidegateError } from "./errors.js";
import type { Line } from "./line.js";
import { type ClientOptions, LINGER_MS, type WatchOptions } from "./options.js";
import { type Folded, fold, initial, isEntry, type OperationState } from "./state.js";
import { idOf, type Json, position } from "./values.js";
import type { Watch } from "./watch.js";

export type Connection = "connecting" | "live" | "waiting" | "ended" | "failed" | "closed";

/** What an application sees of an operation and of the way to it. */
export interface WatchState extends OperationState {
  readonly connection: Connection;
  /** Why it is `failed`. */
  readonly failure: TidegateError | null;
}

function shown({ inPercent: _, ...state }: Folded, connection: Connection, failure: TidegateError | null): WatchState {
  return Object.freeze({ ...state, connection, failure });
}

/** What is known of an operation that nobody has watched yet. */
export const NOTHING_YET: WatchState = shown(initial(), "connecting", null);

/** What an operation belongs to. */
export interface OperationOwner {
  readonly options: ClientOptions;
  /** Watches with a `change` to tell; a timer for each would cost more than what it tells. */
  readonly changed: Set<Watch>;
  /** The operation is over. */
  forget(operation: Operation): void;
}

export class Operation {
  readonly id: string;
  readonly history: WatchOptions["history"];
  readonly owner: OperationOwner;
  readonly watches = new Set<Watch>();
  readonly course: Course;
  line: Line | undefined;
  /** Set while it waits to be asked for again on a connection that lives. */
  again: ReturnType<typeof setTimeout> | undefined;
  folded: Folded;
  /** `current_state` has come, on any connection. */
  told = false;
  #connection: Connection = "connecting";
  #failure: TidegateError | null = null;
  #snapshot: WatchState | null = null;

  constructor(id: string, { history, lastEventId }: WatchOptions, owner: OperationOwner) {
    this.id = id;
    this.history = history;
    this.owner = owner;
    this.folded = initial(idOf(position(lastEventId)));
    this.course = createCourse(typeof owner.options.token === "function");
  }

  /** The same object as long as nothing has changed. */
  get state(): WatchState {
    return (this.#snapshot ??= shown(this.folded, this.#connection, this.#failure));
  }

  get over(): boolean {
    return /^(?:ended|failed|closed)$/.test(this.#connection);
  }

  /** Take in a frame. */
  take(frame: Json): void {
    this.course.heard(frame);
    const next = this.over ? null : fold(this.folded, frame);
    if (!next) return;
    this.folded = next;
    const isState = frame.type === "current_state" && !isEntry(frame);
    if (isState) this.#connection = "live";
    this.#changed();
    // Later connections tell the state again, which an application knows.
    if (!isState || !this.told) for (const watch of this.watches) watch.push(frame);
    this.told ||= isState;
  }

  become(connection: Connection, failure: TidegateError | null = null): void {
    if (this.over || this.#connection === connection) return;
    this.#connection = connection;
    this.#failure = failure;
    this.#changed();
    if (!this.over) return;
    clearTimeout(this.again);
    this.line?.remove(this);
    this.line = undefined;
    this.owner.forget(this);
    for (const watch of this.watches) watch.end();
  }

  /** A watch is closed; the last one takes the operation along, unless another comes at once. */
  release(watch: Watch): void {
    if (!this.watches.delete(watch) || this.watches.size) return;
    setTimeout(() => this.watches.size || this.become("closed"), LINGER_MS);
  }

  #changed(): void {
    this.#snapshot = null;
    for (const watch of this.watches) watch.changed();
  }
}
