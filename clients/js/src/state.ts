/**
 * What an application sees of an operation: its frames folded into one state, which is changed in
 * place (a copy is made for who asks). Every client folds alike (clients/vectors). A frame is an
 * entry when it has an `id` or a `timestamp`: an entry may have any type, also that of another frame.
 *
 * Invariant: `cursor` only rises within an epoch, and nothing at or below it is taken twice. A gap
 * other than `trimmed` begins a new epoch: the log is another one, and all of it follows. A state
 * that was told by `current_state` is that of `at`: entries up to there are in it already.
 */

import { below, isAfter, type Json, merge, millisecondsOf, newest, number, object, type Position, position, text, time } from "./values.js";

/** The newest gap; `before` is null where nothing has followed it yet. */
export interface Gap {
  readonly after: string | null;
  readonly before: string | null;
  readonly reason: string;
}

/** All that is known of an operation. */
export interface OperationState {
  /** `unknown`, `running`, `completed`, `failed`, `cancelled`, or what a backend has set. */
  readonly status: string;
  /** The status is a final one. */
  readonly finished: boolean;
  /** The entry that ends it was received, and none behind it that says it runs again. */
  readonly ended: boolean;
  /** 0 to 1; null while no figure has come. */
  readonly progress: number | null;
  readonly current: number | null;
  readonly total: number | null;
  /** What is counted, in the backend's words. */
  readonly unit: string;
  readonly message: string;
  readonly title: string;
  /** Why it failed, in the backend's words. */
  readonly error: string;
  readonly result: unknown;
  /** Joined from entries that append; its newest part where it is too long. */
  readonly text: string;
  /** The data of entries that merge. */
  readonly merged: Json;
  /** Unix time in ms of `operation_started`, or of the first entry received. */
  readonly startedAt: number | null;
  readonly updatedAt: number | null;
  readonly endedAt: number | null;
  /** From `eta_s` of the newest entry with a figure, else from the rate since the start. */
  readonly estimatedEndAt: number | null;
  /** The gateway has lost Redis; nothing is missed, and all of it comes when Redis is back. */
  readonly stale: boolean;
  /** How many gaps were told. */
  readonly gaps: number;
  readonly gap: Gap | null;
  /** Entries of this log are missing, or what was appended or merged was too large. */
  readonly partial: boolean;
  /** The result was too large for `current_state`; its entry has it. */
  readonly resultOmitted: boolean;
  /** Superseded updates that were left out because this viewer read too slowly. */
  readonly skipped: number;
  readonly entries: number;
  /** How often the log was another one than before. */
  readonly epoch: number;
  /** Where to resume. */
  readonly cursor: string | null;
  /** The state was told by `current_state`, up to this entry. */
  readonly at: string | null;
}

/** The frames of one operation so far. */
export interface Fold {
  /** Changed in place. Entries wait to be folded until somebody looks, as most are looked at together. */
  folded(): OperationState;
  /** Waits for nothing. */
  readonly head: Pick<OperationState, "cursor" | "epoch">;
  /**
   * Take in one frame. False when it says nothing new, and nothing was changed: an entry that was
   * had already, or no frame of the protocol.
   */
  take(frame: Json): boolean;
}

const END = /^operation_(completed|failed|cancelled)$/;
/** Entries that nobody has looked at are kept for a while only. */
const WAITING_MAX = 32;
/** Sums of fractions end a little above 1; a percentage that is meant does not. */
const FRACTION_MAX = 1.000001;

/** What is tried again begins with these. */
const NOTHING = {
  progress: null,
  current: null,
  total: null,
  error: "",
  result: null,
  text: "",
  merged: {},
  estimatedEndAt: null,
  resultOmitted: false,
};

/** Another log begins with these. */
const UNKNOWN = {
  ...NOTHING,
  status: "unknown",
  finished: false,
  ended: false,
  unit: "",
  message: "",
  title: "",
  startedAt: null,
  updatedAt: null,
  endedAt: null,
  partial: false,
  at: null,
};

/** Of an operation whose first frame has not come. */
export const NO_FRAMES: OperationState = {
  ...UNKNOWN,
  stale: false,
  gaps: 0,
  gap: null,
  skipped: 0,
  entries: 0,
  epoch: 0,
  cursor: null,
};

export const isEntry = (frame: Json): boolean => "id" in frame || "timestamp" in frame;

export function createFold(after: Position | null): Fold {
  const state: { -readonly [name in keyof OperationState]: OperationState[name] } = { ...NO_FRAMES, cursor: after };
  /** A `progress` above 1 has come, so 1 is one percent. */
  let inPercent = false;

  /**
   * `unknown` is what a replica says of a stream without any status; it tells nothing new. Whether
   * it tells anything.
   */
  const setStatus = (status: string | null, otherwise: string) => {
    if (!status || status === "unknown") {
      if (state.status === "unknown") state.status = otherwise;
      return false;
    }
    const finished = END.test(`operation_${status}`);
    if (state.finished && !finished) {
      // It is tried again.
      Object.assign(state, NOTHING);
      inPercent = false;
    }
    state.status = status;
    state.finished = finished;
    return true;
  };

  const describe = (data: Json) => {
    for (const name of ["title", "message", "unit"] as const) state[name] = text(data[name]) ?? state[name];
    state.error = text(data.error) ?? text(object(data.error).message) ?? state.error;
    if (data.result != null) {
      state.result = data.result;
      state.resultOmitted = false;
    }
  };

  /**
   * `current` of `total`, which may come in entries of their own, or `progress` as 0..1 or 0..100.
   * Whether there is a new figure.
   */
  const measure = (data: Json) => {
    const current = number(data.current);
    const total = Math.max(0, number(data.total) ?? 0) || null;
    state.current = current ?? state.current;
    state.total = total ?? state.total;
    let progress = number(data.progress);
    if ((current ?? total) !== null && state.current !== null && state.total) progress = state.current / state.total;
    // 1 is the end of 0..1 and the first percent of 0..100: only a figure above 1 tells.
    else if (progress !== null && (inPercent ||= progress > FRACTION_MAX)) progress /= 100;
    if (progress !== null) state.progress = Math.min(1, Math.max(0, progress));
    return progress !== null;
  };

  const entry = ({ id, type, fold }: Json, data: Json) => {
    let ms: number | null = null;
    const at = position(id);
    if (at && !isAfter(at, state.at)) {
      // The state contains it already, except for a result that was too large.
      if (state.resultOmitted) state.result = data.result ?? state.result;
      if (at === state.at) {
        state.ended = state.finished;
        state.resultOmitted &&= state.result === null;
      }
      return;
    }
    if (at) {
      ms = millisecondsOf(at);
      state.updatedAt = ms ?? state.updatedAt;
      if (type === "operation_started") state.startedAt = ms ?? state.startedAt;
      state.startedAt ??= ms;
    }
    if (setStatus(END.exec(text(type) ?? "")?.[1] ?? text(data.status), "running")) {
      state.ended = state.finished;
      state.endedAt = state.finished ? ms : null;
    }
    describe(data);
    const rule = data.fold ?? fold ?? type;
    if (rule === "append") {
      const joined = state.text + (text(data.text) ?? "");
      state.text = newest(joined);
      state.partial ||= state.text !== joined;
    }
    if (rule === "merge") {
      const { fold: _, ...patch } = data;
      const merged = merge(state.merged, patch);
      state.merged = merged ?? state.merged;
      state.partial ||= !merged;
    }
    const measured = measure(data);
    const left = number(data.eta_s) ?? -1;
    const took = ms! - state.startedAt!;
    // As the entry says, in seconds from its own time, else at the rate since the start, if that is known.
    if (state.finished) state.estimatedEndAt = null;
    else if (ms && left >= 0) state.estimatedEndAt = time(ms + left * 1000);
    else if (measured)
      state.estimatedEndAt =
        state.progress && took > 0 && !state.partial ? time(state.startedAt! + took / state.progress) : null;
  };

  /**
   * Whoever knows nothing yet takes the state of a frame with `at`. Without `at`, what an operation
   * source says counts while no entry has said otherwise.
   */
  const currentState = (frame: Json, data: Json) => {
    state.cursor ??= position(frame.cursor);
    state.stale = false;
    setStatus(text(data.status), "unknown");
    if (state.entries || state.at) return;
    describe(data);
    measure(data);
    const at = position(frame.at);
    if (!at) return;
    state.at = at;
    state.progress = null;
    measure({ progress: data.progress });
    inPercent = data.in_percent === true;
    state.text = newest(text(data.text) ?? "");
    state.merged = merge({}, object(data.merged)) ?? {};
    for (const name of ["started", "updated", "ended"] as const) state[`${name}At`] = time(data[`${name}_ms`]);
    state.estimatedEndAt = time(data.estimated_end_ms);
    state.partial = data.partial === true;
    state.resultOmitted = data.result_omitted === true;
    state.ended = state.finished && !isAfter(at, state.cursor);
  };

  const gap = (data: Json) => {
    const before = position(data.before);
    const reason = text(data.reason) || "unknown";
    /** Just below `before`: what follows is behind it. */
    const under = below(before);
    if (reason === "trimmed") {
      if (under && isAfter(under, state.cursor)) state.cursor = under;
      // Unless the state contains what is missing.
      state.partial ||= !under || isAfter(under, state.at);
    } else {
      // A log of which nothing is known.
      Object.assign(state, UNKNOWN, { cursor: under ?? "0-0", epoch: state.epoch + 1 });
      inPercent = false;
    }
    state.gaps++;
    state.gap = { after: position(data.after), before, reason };
  };

  /** Entries that are not folded yet. */
  let waiting: Json[] = [];

  const fold = (frame: Json) => {
    const data = object(frame.data);
    const { type } = frame;
    if (isEntry(frame)) {
      entry(frame, data);
      state.entries += Math.floor(Math.max(1, number(frame.joined) ?? 1));
    } else if (type === "current_state") currentState(frame, data);
    else if (type === "gap") gap(data);
    else if (type === "skipped") state.skipped += Math.floor(Math.max(0, number(data.count) ?? 0));
    else if (type === "stale" || type === "live") state.stale = type === "stale";
    else return false;
    // What has completed is at its end, once that is all there is to come.
    if (state.status === "completed" && (state.ended || !state.entries)) {
      state.progress = 1;
      state.error = "";
    }
    return true;
  };
  const folded = () => {
    waiting.forEach(fold);
    waiting = [];
    return state;
  };

  return {
    head: state,
    folded,

    take(frame) {
      if (!isEntry(frame)) {
        folded();
        return fold(frame);
      }
      if (frame.id !== undefined) {
        const at = position(frame.id);
        if (!at || !isAfter(at, state.cursor)) return false;
        state.cursor = at;
      }
      if (waiting.push(frame) > WAITING_MAX) folded();
      return true;
    },
  };
}
