/** One operation, or one user: all that is known, drawn again while it is open. */

import { $, make, put } from "./dom.js";
import { count, time, timeOf, timeOfId } from "./format.js";

const ROLES = { leading: "dispatches", following: "follows", listening: "listens" };

export function operationParts({ replicas, stream, group, history, redis_error: redisError }) {
  const followed = replicas.filter(({ report }) => report?.followed);
  const silent = replicas.filter(({ answered }) => !answered).map(({ pod }) => pod);
  const reports = followed.map(({ report }) => report);
  const parts = [];
  const furthest = reports.reduce((best, one) => (best && position(best.cursor) >= position(one.cursor) ? best : one), null);
  const state = { "Followed by": followed.length ? `${followed.length} of ${replicas.length} replicas` : "no replica: it has no viewers" };
  if (furthest) {
    state.Status = furthest.status + (furthest.finished ? " (ended)" : "");
    state["Dispatched by"] = followed.filter(({ report }) => report.role === "leading").map(({ pod }) => pod).join(", ") || "none at the moment";
    state["Gap frames"] = count(reports.reduce((sum, one) => sum + one.gaps, 0));
  }
  if (silent.length) state["No response from"] = silent.join(", ");
  if (redisError) state.Redis = redisError;
  parts.push(facts("State", state));
  if (followed.length)
    parts.push(
      table("Viewers by replica", ["Replica", "Dispatch", "Live", "Lagging", "Catching up", "Behind", "Delivered up to"], followed.map(({ pod, report }) => [
        pod,
        report.stale ? "no Redis" : (ROLES[report.role] ?? report.role),
        count(report.viewers.live),
        count(report.viewers.lagging),
        count(report.viewers.catching_up),
        behind(report.cursor, stream),
        report.cursor,
      ])),
    );
  if (stream) parts.push(facts("Stream", { First: stream.first, Last: stream.last, Length: count(stream.length), "Added in total": count(stream.entries_added) }));
  else if (!redisError) parts.push(facts("Stream", { "In Redis": "none" }));
  if (group) parts.push(facts("Consumer group", { Delivered: group.last_delivered, "Not dispatched": group.lag ?? "unknown", Pending: count(group.pending), Consumers: count(group.consumers) }));
  if (history.length) parts.push(log(history));
  return parts;
}

/** `row`: of the list, if it is in it. */
export function userParts({ slots, limit, omitted, connections }, row) {
  const parts = [facts("Slots", { "In use": `${count(slots)} of ${count(row?.limit || limit)}`, "Connections in the list": row ? count(row.connections) : "not in the list" })];
  if (connections.length)
    parts.push(
      table("Connections", ["Replica", "Since", "State"], connections.map(({ replica, since_ms: since, live }) => [
        replica,
        since ? timeOf(since) : "–",
        live ? "open" : "replica is gone",
      ])),
    );
  if (omitted) parts.push(make("p", "count", `${count(omitted)} more are not shown.`));
  return parts;
}

/** Figures change, parts seldom: what is read or selected stays where it is. */
export function drawParts(parts) {
  const place = $("panel-parts");
  if (place.childElementCount !== parts.length) return place.replaceChildren(...parts);
  parts.forEach((fresh, at) => {
    const shown = place.children[at];
    if (shown.textContent !== fresh.textContent) shown.replaceWith(fresh);
  });
  return undefined;
}

export function clearParts(error = "") {
  $("panel-parts").replaceChildren();
  put($("panel-error"), error);
}

/** The time part of an id, which decides in practice. */
const position = (cursor) => Number(cursor.split("-")[0]);

function behind(cursor, stream) {
  if (!stream || cursor === stream.last) return "no";
  if (cursor === "0-0") return "yes";
  return time((position(stream.last) - position(cursor)) / 1000);
}

function facts(title, known) {
  const list = make("dl", "facts");
  for (const [name, value] of Object.entries(known)) list.append(make("div", "", make("dt", "", name), make("dd", "", String(value))));
  return make("section", "", make("h3", "", title), list);
}

function table(title, heads, rows) {
  const head = make("tr", "", ...heads.map((text) => cell("th", text, "col")));
  const body = rows.map(([first, ...rest]) => make("tr", "", cell("th", first, "row"), ...rest.map((text) => make("td", "", text))));
  const shown = make("div", "scroll", make("table", "", make("thead", "", head), make("tbody", "", ...body)));
  shown.tabIndex = 0;
  shown.setAttribute("role", "region");
  shown.setAttribute("aria-label", title);
  return make("section", "", make("h3", "", title), shown);
}

function cell(tag, text, scope) {
  const made = make(tag, "", text);
  made.scope = scope;
  return made;
}

function log(history) {
  const lines = history.map(({ id, type, data, cut }) => {
    const line = make("li", "", make("time", "", timeOfId(id)), make("b", "", type), make("code", "", data + (cut ? " …" : "")));
    line.title = id;
    return line;
  });
  return make("section", "", make("h3", "", `Newest entries (${history.length})`), make("ol", "entries", ...lines));
}
