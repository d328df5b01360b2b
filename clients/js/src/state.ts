/**
 * What an application sees of an operation: its frames folded into one state, by one pure function.
 * Every client folds alike (clients/vectors). A frame is an entry when it has an `id` or a
 * `timestamp`: an entry may have any type, also that of another frame.
 *
 * Invariant: `cursor` only rises within an epoch, and nothing at or below it is taken twice. A gap
 * other than `trimmed` begins a new epoch: the log is another one, and all of it follows. A state
 * that was told by `current_state` is that of `at`: entries up to there are in it already.
 */

import { idOf, type Json, merge, millisecondsOf, newest, number, object, position, text, time } from "./values.js";

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

/** Internal: the state, and whether a `progress` above 1 has come, so that 1 is one percent. */
export interface Folded extends OperationState {
  readonly inPercent: boolean;
}

/** A copy, while a frame is taken in. */
type Draft = { -readonly [name in keyof Folded]: Folded[name] };

const FINAL = /^(?:completed|failed|cancelled)$/;
const END = /^operation_(completed|failed|cancelled)$/;
/** Streams came in 2018: an older id is no time. */
const OLDEST_TIME_MS = 1_514_764_800_000;
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
  inPercent: false,
};

export const initial = (cursor: string | null = null): Folded => ({
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
  stale: false,
  gaps: 0,
  gap: null,
  partial: false,
  skipped: 0,
  entries: 0,
  epoch: 0,
  cursor,
  at: null,
});

export const isEntry = (frame: Json): boolean => frame.id !== undefined || frame.timestamp !== undefined;

/**
 * The state behind a frame; null when the frame says nothing new: an entry that was had already, or
 * no frame of the protocol.
 */
export function fold(state: Folded, frame: Json): Folded | null {
  const next: Draft = { ...state };
  const data = object(frame.data);
  if (isEntry(frame)) return entry(next, frame, data) ? complete(next) : null;
  switch (frame.type) {
    case "current_state":
      currentState(next, frame, data);
      return complete(next);
    case "gap":
      return gap(next, data);
    case "skipped":
      next.skipped += Math.floor(Math.max(0, number(data.count) ?? 0));
      return next;
    case "stale":
    case "live":
      next.stale = frame.type === "stale";
      return next;
  }
  return null;
}

/** Whether it is a new one. */
function entry(state: Draft, { id, type, fold, joined: count }: Json, data: Json): boolean {
  let ms: number | null = null;
  state.entries += entriesIn(count);
  if (id !== undefined) {
    const here = position(id);
    const at = position(state.at);
    if (here <= position(state.cursor)) return false;
    state.cursor = idOf(here);
    if (here <= at) {
      // The state contains it already, except for a result that was too large.
      if (state.resultOmitted) state.result = data.result ?? state.result;
      if (here === at) {
        state.ended = state.finished;
        state.resultOmitted &&= state.result === null;
      }
      return true;
    }
    ms = millisecondsOf(here);
    if (ms! < OLDEST_TIME_MS) ms = null;
    state.updatedAt = ms ?? state.updatedAt;
    if (type === "operation_started") state.startedAt = ms ?? state.startedAt;
    state.startedAt ??= ms;
  }
  const status = (typeof type === "string" && END.exec(type)?.[1]) || text(data.status);
  setStatus(state, status, "running");
  describe(state, data);
  if (status && status !== "unknown") {
    state.ended = state.finished;
    state.endedAt = state.finished ? ms : null;
  }
  const { fold: own, ...patch } = data;
  const rule = own ?? fold ?? type;
  if (rule === "append") {
    const joined = state.text + (text(data.text) ?? "");
    state.text = newest(joined);
    state.partial ||= state.text !== joined;
  }
  if (rule === "merge") {
    const merged = merge(state.merged, patch);
    state.merged = merged ?? state.merged;
    state.partial ||= !merged;
  }
  const measured = measure(state, data);
  const left = number(data.eta_s) ?? -1;
  const took = ms! - state.startedAt!;
  // As the entry says, in seconds from its own time, else at the rate since the start, if that is known.
  if (state.finished) state.estimatedEndAt = null;
  else if (ms !== null && left >= 0) state.estimatedEndAt = time(ms + left * 1000);
  else if (measured)
    state.estimatedEndAt =
      state.progress && took > 0 && !state.partial ? time(state.startedAt! + took / state.progress) : null;
  return true;
}

/** How many entries a frame stands for: 1 unless it says another number, of 31 bits. */
const entriesIn = (joined: unknown): number => {
  const count = joined as number;
  return count === (count | 0) && count > 1 ? count : 1;
};

/** `unknown` is what a replica says of a stream without any status; it tells nothing new. */
function setStatus(state: Draft, status: string | null, otherwise: string): void {
  if (!status || status === "unknown") {
    if (state.status === "unknown") state.status = otherwise;
    return;
  }
  const finished = FINAL.test(status);
  // It is tried again.
  if (state.finished && !finished) Object.assign(state, NOTHING);
  state.status = status;
  state.finished = finished;
}

function describe(state: Draft, data: Json): void {
  for (const name of ["title", "message", "unit", "error"] as const) state[name] = text(data[name]) ?? state[name];
  state.error = text(object(data.error).message) ?? state.error;
  if (data.result != null) {
    state.result = data.result;
    state.resultOmitted = false;
  }
}

/**
 * `current` of `total`, which may come in entries of their own, or `progress` as 0..1 or 0..100.
 * Whether there is a new figure.
 */
function measure(state: Draft, data: Json): boolean {
  const current = number(data.current);
  const total = Math.max(0, number(data.total) ?? 0) || null;
  state.current = current ?? state.current;
  state.total = total ?? state.total;
  let progress = number(data.progress);
  if ((current ?? total) !== null && state.current !== null && state.total) progress = state.current / state.total;
  // 1 is the end of 0..1 and the first percent of 0..100: only a figure above 1 tells.
  else if (progress !== null && (state.inPercent ||= progress > FRACTION_MAX)) progress /= 100;
  if (progress !== null) state.progress = Math.min(1, Math.max(0, progress));
  return progress !== null;
}

/** What has completed is at its end, once that is all there is to come. */
function complete(state: Draft): Folded {
  if (state.status === "completed" && (state.ended || !state.entries)) {
    state.progress = 1;
    state.error = "";
  }
  return state;
}

/**
 * Whoever knows nothing yet takes the state of a frame with `at`. Without `at`, what an operation
 * source says counts while no entry has said otherwise.
 */
function currentState(state: Draft, frame: Json, data: Json): void {
  state.cursor ??= idOf(position(frame.cursor));
  state.stale = false;
  setStatus(state, text(data.status), "unknown");
  if (state.entries || state.at) return;
  describe(state, data);
  measure(state, data);
  const at = position(frame.at);
  if (at < 0) return;
  state.at = idOf(at);
  state.progress = null;
  measure(state, { progress: data.progress });
  state.inPercent = data.in_percent === true;
  state.text = newest(text(data.text) ?? "");
  state.merged = merge({}, object(data.merged)) ?? {};
  state.startedAt = time(data.started_ms);
  state.updatedAt = time(data.updated_ms);
  state.endedAt = time(data.ended_ms);
  state.estimatedEndAt = time(data.estimated_end_ms);
  state.partial = data.partial === true;
  state.resultOmitted = data.result_omitted === true;
  state.ended = state.finished && position(state.cursor) >= at;
}

function gap(state: Draft, data: Json): Folded {
  const before = position(data.before);
  const reason = text(data.reason) || "unknown";
  /** Just below `before`: what follows is behind it. */
  const under = before > 0 ? before - 1n : before;
  const gap = { after: idOf(position(data.after)), before: idOf(before), reason };
  let next = state;
  if (reason === "trimmed") {
    if (under > position(state.cursor)) state.cursor = idOf(under);
    // Unless the state contains what is missing.
    state.partial ||= under < 0 || under > position(state.at);
  } else {
    const { stale, skipped, entries, epoch, gaps } = state;
    next = { ...initial(idOf(under) ?? "0-0"), stale, skipped, entries, gaps, epoch: epoch + 1 };
  }
  next.gaps++;
  next.gap = gap;
  return next;
}
