/**
 * What an application sees of an operation: its frames folded into one state, by one pure function.
 * Every client folds alike (clients/vectors). A frame is an entry when it has an `id` or a
 * `timestamp`: an entry may have any type, also that of another frame.
 *
 * Invariant: `cursor` only rises within an epoch, and nothing at or below it is taken twice. A gap
 * other than `trimmed` begins a new epoch: the log is another one, and all of it follows.
 */

import { idOf, type Json, millisecondsOf, number, object, position, text } from "./values.js";

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
  readonly message: string;
  readonly title: string;
  /** Why it failed, in the backend's words. */
  readonly error: string;
  readonly result: unknown;
  /** Unix time in ms of `operation_started`, or of the first entry received. */
  readonly startedAt: number | null;
  readonly updatedAt: number | null;
  readonly endedAt: number | null;
  /** The gateway has lost Redis; nothing is missed, and all of it comes when Redis is back. */
  readonly stale: boolean;
  /** How many gaps were told. */
  readonly gaps: number;
  readonly gap: Gap | null;
  /** Entries of this log were trimmed before they were received. */
  readonly partial: boolean;
  /** Superseded updates that were left out because this viewer read too slowly. */
  readonly skipped: number;
  readonly entries: number;
  /** How often the log was another one than before. */
  readonly epoch: number;
  /** Where to resume. */
  readonly cursor: string | null;
}

/** Internal: the state, and whether a `progress` above 1 has come, so that 1 is one percent. */
export interface Folded extends OperationState {
  readonly inPercent: boolean;
}

const FINAL = /^(?:completed|failed|cancelled)$/;
const END = /^operation_(completed|failed|cancelled)$/;
/** Streams came in 2018: an older id is no time. The last is the last moment of a Date. */
const OLDEST_TIME_MS = 1_514_764_800_000;
const NEWEST_TIME_MS = 8.64e15;
/** Sums of fractions end a little above 1; a percentage that is meant does not. */
const FRACTION_MAX = 1.000001;

export const initial = (cursor: string | null = null): Folded => ({
  status: "unknown",
  finished: false,
  ended: false,
  progress: null,
  current: null,
  total: null,
  message: "",
  title: "",
  error: "",
  result: null,
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
  inPercent: false,
});

export const isEntry = (frame: Json): boolean => frame.id !== undefined || frame.timestamp !== undefined;

/**
 * The state behind a frame; null when the frame says nothing new: an entry that was had already, or
 * no frame of the protocol.
 */
export function fold(state: Folded, frame: Json): Folded | null {
  const data = object(frame.data);
  if (isEntry(frame)) return entry(state, frame, data);
  switch (frame.type) {
    case "current_state":
      return currentState(state, frame, data);
    case "gap":
      return gap(state, data);
    case "skipped":
      return { ...state, skipped: state.skipped + Math.floor(Math.max(0, number(data.count) ?? 0)) };
    case "stale":
    case "live":
      return { ...state, stale: frame.type === "stale" };
  }
  return null;
}

function entry(state: Folded, frame: Json, data: Json): Folded | null {
  let { cursor, startedAt, updatedAt } = state;
  let ms: number | null = null;
  if (frame.id !== undefined) {
    const at = position(frame.id);
    const last = position(cursor);
    if (at === null || (last !== null && at <= last)) return null;
    cursor = idOf(at);
    ms = millisecondsOf(at);
    if (ms < OLDEST_TIME_MS || ms > NEWEST_TIME_MS) ms = null;
    if (ms !== null) {
      updatedAt = ms;
      if (startedAt === null || frame.type === "operation_started") startedAt = ms;
    }
  }
  const status = (typeof frame.type === "string" && END.exec(frame.type)?.[1]) || text(data.status);
  let next: Folded = { ...state, cursor, startedAt, updatedAt, entries: state.entries + 1 };
  next = described(withStatus(next, status, "running"), data);
  if (status && status !== "unknown") next = { ...next, ended: next.finished, endedAt: next.finished ? ms : null };
  return complete(measured(next, data));
}

/** `unknown` is what a replica says of a stream without any status; it tells nothing new. */
function withStatus(state: Folded, status: string | null, otherwise: string): Folded {
  if (!status || status === "unknown") return state.status === "unknown" ? { ...state, status: otherwise } : state;
  const finished = FINAL.test(status);
  if (!state.finished || finished) return { ...state, status, finished };
  // It is tried again.
  const nothing = { progress: null, current: null, total: null, error: "", result: null, inPercent: false };
  return { ...state, ...nothing, status, finished };
}

function described(state: Folded, data: Json): Folded {
  return {
    ...state,
    title: text(data.title) ?? state.title,
    message: text(data.message) ?? state.message,
    error: text(data.error) ?? text(object(data.error).message) ?? state.error,
    result: data.result ?? state.result,
  };
}

/** `current` of `total`, which may come in entries of their own, or `progress` as 0..1 or 0..100. */
function measured(state: Folded, data: Json): Folded {
  let current = number(data.current);
  let total = number(data.total);
  if (total !== null && total <= 0) total = null;
  const counted = current !== null || total !== null;
  current ??= state.current;
  total ??= state.total;
  let progress = number(data.progress);
  let inPercent = state.inPercent;
  if (counted && current !== null && total !== null) {
    progress = current / total;
  } else if (progress !== null) {
    // 1 is the end of 0..1 and the first percent of 0..100: only a figure above 1 tells.
    inPercent ||= progress > FRACTION_MAX;
    if (inPercent) progress /= 100;
  }
  progress = progress === null ? state.progress : Math.min(1, Math.max(0, progress));
  return { ...state, current, total, progress, inPercent };
}

/** What has completed is at its end, once that is all there is to come. */
const complete = (state: Folded): Folded =>
  state.status === "completed" && (state.ended || !state.entries) ? { ...state, progress: 1, error: "" } : state;

/** What an operation source says counts while no entry has said otherwise. */
function currentState(state: Folded, frame: Json, data: Json): Folded {
  const cursor = state.cursor ?? idOf(position(frame.cursor));
  let next = withStatus({ ...state, cursor, stale: false }, text(data.status), "unknown");
  if (!state.entries) next = measured(described(next, data), data);
  return complete(next);
}

function gap(state: Folded, data: Json): Folded {
  const before = position(data.before);
  const reason = text(data.reason) || "unknown";
  const gaps = state.gaps + 1;
  const last = { after: idOf(position(data.after)), before: idOf(before), reason };
  /** Just below `before`: what follows is behind it. */
  const under = before ? before - 1n : before;
  if (reason === "trimmed") {
    const had = position(state.cursor);
    const cursor = under !== null && (had === null || under > had) ? idOf(under) : state.cursor;
    return { ...state, gaps, gap: last, partial: true, cursor };
  }
  const { stale, skipped, entries, epoch } = state;
  return { ...initial(idOf(under ?? 0n)), stale, skipped, entries, gaps, gap: last, epoch: epoch + 1 };
}
