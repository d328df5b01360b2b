/**
 * Values from outside: positions in a stream, numbers and texts, read so that all clients agree.
 * The cases are in clients/vectors; the same in Python is tidegate.model.frame_values.
 */

/** A JSON object from outside, of which nothing is known. */
export type Json = Readonly<Record<string, unknown>>;

/** Figures above it are nonsense. */
const NUMBER_MAX = 1e18;
const NUMBER_TEXT_MAX_CHARS = 64;
/** Streams came in 2018: an older id is no time. */
const OLDEST_TIME_MS = 1_514_764_800_000;
/** The last moment of a Date. */
const NEWEST_TIME_MS = 8.64e15;
/** Of a text that was appended to. */
const TEXT_MAX_UNITS = 262_144;
/**
 * Of merged data: a value counts as 1, a text and a name as their units as well; an element of a list
 * is named by its index.
 */
const MERGED_MAX = 16_384;
/** Objects and lists in one another. */
const DEPTH_MAX = 16;
const HALF = 64n;
const HALF_MAX = (1n << HALF) - 1n;
const ID = /^\d{1,20}(-\d{1,20})?$/;
/** As Redis writes all that are not near the end of 64 bits: nothing to compute for a frame. */
const WRITTEN = /^(?!0\d)\d{1,19}-(?!0\d)\d{1,19}$/;
/** Of these characters `Number` reads decimal numbers, and NaN where they make none. */
const NUMBER = /^[ \t\r\n+.-]*\d[ \t\r\n+.\de-]*$/i;

/** A position in a stream, written in one way only: `<milliseconds>-<sequence>`, 64 bits each. */
export type Position = string;

/** Null where it is none. */
export const position = (value: unknown): Position | null =>
  typeof value !== "string" ? null : WRITTEN.test(value) ? value : ID.test(value) ? idOf(bits(value)) : null;

/** Milliseconds in the upper 64 bits, the sequence in the lower; -1 where one has more. */
function bits(id: string): bigint {
  const [ms, seq = 0n] = id.split("-").map(BigInt) as [bigint, bigint?];
  return ms > HALF_MAX || seq > HALF_MAX ? -1n : (ms << HALF) | seq;
}

const idOf = (at: bigint): Position | null => (at < 0 ? null : `${at >> HALF}-${at & HALF_MAX}`);

/**
 * Null is below all positions. Where both numbers of two have as many digits, the greater text is
 * the greater position.
 */
export const isAfter = (at: Position, other: Position | null): boolean =>
  other === null ||
  (at.length === other.length && at.indexOf("-") === other.indexOf("-") ? at > other : bits(at) > bits(other));

/** The one just below it; of the first that itself. */
export const below = (at: Position | null): Position | null => at && (idOf(bits(at) - 1n) ?? at);

/** Its time, if that is one. */
export function millisecondsOf(at: Position): number | null {
  const ms = parseInt(at);
  return ms >= OLDEST_TIME_MS ? time(ms) : null;
}

/** A number, or a text that is one (`XADD ... progress 0.7`). */
export function number(value: unknown): number | null {
  if (typeof value === "string" && value.length <= NUMBER_TEXT_MAX_CHARS && NUMBER.test(value)) value = Number(value);
  return typeof value === "number" && Math.abs(value) <= NUMBER_MAX ? value : null;
}

/** A text; half a surrogate pair, which JSON can name and nothing can show, is U+FFFD. */
export const text = (value: unknown): string | null =>
  typeof value === "string" ? value.toWellFormed() : null;

/** A time in Unix milliseconds; null for what no calendar has. */
export function time(value: unknown): number | null {
  const ms = number(value) ?? -1;
  return ms >= 0 && ms <= NEWEST_TIME_MS ? Math.floor(ms) : null;
}

/** The newest part of a text; half a character at its beginning is U+FFFD. */
export const newest = (joined: string): string =>
  joined.length > TEXT_MAX_UNITS ? joined.slice(-TEXT_MAX_UNITS).toWellFormed() : joined;

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && !!value && !Array.isArray(value);

export const object = (value: unknown): Json => (isObject(value) ? value : {});

/** The target after a JSON merge patch (RFC 7396); null where it would be too large or deep. */
export const merge = (target: Json, patch: Json): Json | null =>
  weight(patch, DEPTH_MAX) <= MERGED_MAX && weight((target = patched(target, patch)), DEPTH_MAX) <= MERGED_MAX
    ? target
    : null;

function patched(target: unknown, patch: Json): Json {
  // A Map, as a member may be named `__proto__`.
  const merged = new Map(Object.entries(object(target)));
  for (const [name, value] of Object.entries(patch))
    if (value === null) merged.delete(name);
    else merged.set(name, isObject(value) ? patched(merged.get(name), value) : value);
  return Object.fromEntries(merged);
}

/** What counts of a value; infinite when it is too deep. */
const weight = (value: unknown, depth: number): number =>
  typeof value !== "object" || !value
    ? 1 + ((value as string | null)?.length ?? 0)
    : depth
      ? Object.entries(value).reduce((sum, [name, one]) => sum + name.length + weight(one, depth - 1), 1)
      : Infinity;

/** A frame; what is none is passed over, as a newer protocol may bring what we do not know. */
export function parse(received: unknown): Json | null {
  try {
    const value: unknown = JSON.parse(received as string);
    if (isObject(value)) return value;
  } catch {
    // passed over as well
  }
  return null;
}
