/**
 * Values from outside: positions in a stream, numbers and texts, read so that all clients agree.
 * The cases are in clients/vectors; the same rules in Python are tidegate.model.folded_state.
 */

/** A JSON object from outside, of which nothing is known. */
export type Json = Readonly<Record<string, unknown>>;

/** Figures above it are nonsense. */
const NUMBER_MAX = 1e18;
const NUMBER_TEXT_MAX_CHARS = 64;
const HALF = 64n;
const HALF_MAX = (1n << HALF) - 1n;
const ID = /^(\d{1,20})(?:-(\d{1,20}))?$/;
const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

/** A position in a stream: milliseconds in the upper 64 bits, the sequence in the lower. */
export type Position = bigint;

export function position(value: unknown): Position | null {
  const match = typeof value === "string" ? ID.exec(value) : null;
  if (!match) return null;
  const [ms, seq] = [BigInt(match[1]!), BigInt(match[2] ?? 0)];
  return ms > HALF_MAX || seq > HALF_MAX ? null : (ms << HALF) | seq;
}

/** As it is written in a frame. */
export function idOf(at: Position): string;
export function idOf(at: Position | null): string | null;
export function idOf(at: Position | null): string | null {
  return at === null ? null : `${at >> HALF}-${at & HALF_MAX}`;
}

export const millisecondsOf = (at: Position): number => Number(at >> HALF);

/** A number, or a text that is one (`XADD ... progress 0.7`). */
export function number(value: unknown): number | null {
  if (typeof value === "string") {
    const trimmed = value.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, "");
    if (trimmed.length > NUMBER_TEXT_MAX_CHARS || !NUMBER.test(trimmed)) return null;
    value = Number(trimmed);
  }
  return typeof value === "number" && Math.abs(value) <= NUMBER_MAX ? value : null;
}

/** A text; half a surrogate pair, which JSON can name and nothing can show, is U+FFFD. */
export const text = (value: unknown): string | null =>
  typeof value === "string" ? value.toWellFormed() : null;

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const object = (value: unknown): Json => (isObject(value) ? value : {});

/** A frame; what is none is passed over, as a newer protocol may bring what we do not know. */
export function parse(received: unknown): Json | null {
  try {
    const value: unknown = JSON.parse(received as string);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}
