/** Numbers and times, as people read them. */

export const count = (value) => Number(value ?? 0).toLocaleString("en");

/** Seconds; null or 0 is not measured. */
export function time(seconds) {
  if (!seconds) return "–";
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(2))} ms`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/** How many there are over all replicas, which may be known within bounds only. */
export function range({ at_least: least, at_most: most }) {
  return least === most ? count(least) : `${count(least)} to ${count(most)}`;
}

/** A sum that may be too small. */
export const sum = (value, isComplete) => (isComplete ? count(value) : `≥ ${count(value)}`);

/** When the entry with this id was written, if its id is a time; else the id. */
export function timeOfId(id) {
  const ms = Number(id.split("-")[0]);
  // Ids that backends choose themselves are often small numbers.
  if (ms < 1_514_764_800_000 || ms > 8_640_000_000_000) return id === "0-0" ? "" : id;
  return timeOf(ms);
}

export function timeOf(ms) {
  const at = new Date(ms);
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? at.toLocaleTimeString("en-GB") : at.toLocaleString("en-GB");
}

export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
