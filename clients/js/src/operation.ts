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
import { createFold, type Fold, isEntry, type OperationState } from "./state.js";
import { type Json, position } from "./values.js";
import type { Watch } from "./watch.js";

export type Connection = "connecting" | "live" | "waiting" | "ended" | "failed" | "closed";

/** What an application sees of an operation and of the way to it. */
export interface WatchState extends OperationState {
  readonly connection: Connection;
  /** Why it is `failed`. */
  readonly failure: TidegateError | null;
}

const shown = (state: OperationState, connection: Connection, failure: TidegateError | null): WatchState =>
  Object.freeze({ ...state, connection, failure });

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
  /** `current_state` has come, on any connection. */
  told = false;
  /** It is ended, failed or closed. */
  over = false;
  readonly frames: Fold;
  private way: Connection = "connecting";
  private fault: TidegateError | null = null;
  private copy: WatchState | undefined;

  constructor(id: string, { history, lastEventId }: WatchOptions, owner: OperationOwner) {
    this.id = id;
    this.history = history;
    this.owner = owner;
    this.frames = createFold(position(lastEventId));
    this.course = createCourse(typeof owner.options.token === "function");
  }

  /** What its frames say. */
  get folded(): OperationState {
    return this.frames.folded();
  }

  /** The same object as long as nothing has changed. */
  get state(): WatchState {
    return (this.copy ??= shown(this.folded, this.way, this.fault));
  }

  /** Take in a frame. */
  take(frame: Json): void {
    this.course.heard(frame);
    if (this.over || !this.frames.take(frame)) return;
    const isState = frame.type === "current_state" && !isEntry(frame);
    if (isState) this.way = "live";
    // Later connections tell the state again, which an application knows.
    this.announce(isState && this.told ? undefined : frame);
    this.told ||= isState;
  }

  become(connection: Connection, failure: TidegateError | null = null): void {
    if (this.over || this.way === connection) return;
    this.way = connection;
    this.fault = failure;
    this.over = /ed$/.test(connection);
    this.announce();
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

  private announce(frame?: Json): void {
    this.copy = undefined;
    for (const watch of this.watches) watch.changed(frame);
  }
}
