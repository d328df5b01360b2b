/** How times, states and updates are written. */

import { TidegateProgress } from "./tidegate.js";

/** Names of states, as the element has them. */
const { waiting, running, completed, failed, cancelled, refused } = TidegateProgress.texts;
export const STATES = { waiting, running, completed, failed, cancelled, refused };

const FINAL = new Set(["completed", "failed", "cancelled"]);
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export function stateOf({ status, failure }) {
  if (failure) return "refused";
  if (FINAL.has(status)) return status;
  return status === "unknown" ? "waiting" : "running";
}

export const isFinal = (state) => FINAL.has(state);

export function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function ago(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds / 5) * 5} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3600)} h ago`;
}

/** When an entry was written, by its id; else when it came. */
export function timeOf(frame, received) {
  const ms = frame.id ? Number(frame.id.split("-")[0]) : NaN;
  return clock.format(ms > 1.5e12 && ms < 8e15 ? ms : received);
}

/** What an update says, in a few words. */
export function summary({ type, id, data }) {
  const has = data !== null && typeof data === "object" ? data : { value: data };
  if (id === null && type === "gap") return `missing updates: ${has.reason ?? "unknown"}`;
  if (id === null && type === "skipped") return `${has.count} superseded updates were skipped`;
  if (id === null && type === "current_state") return "connected";
  if (id === null && type === "stale") return "the gateway cannot reach Redis; updates are delayed";
  if (id === null && type === "live") return "the gateway is connected to Redis again";
  const parts = [];
  const progress = Number(has.progress);
  if (has.progress !== undefined && Number.isFinite(progress)) parts.push(percent(progress));
  if (has.total === undefined && has.current !== undefined && typeof has.message !== "string") parts.push(String(has.current));
  if (typeof has.error === "string") parts.push(has.error);
  if (typeof has.message === "string") parts.push(has.message);
  if (!parts.length && typeof has.title === "string") parts.push(has.title);
  if (!parts.length && typeof has.status === "string") parts.push(has.status);
  return parts.join(" · ") || JSON.stringify(data);
}

const percent = (progress) => `${Math.round((progress > 1.000001 ? progress / 100 : progress) * 100)} %`;

/** The name of an entry's type, for people. */
export const typeName = (type) => type.replace(/^operation_/, "").replaceAll("_", " ");
