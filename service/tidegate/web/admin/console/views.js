/** The replica's metrics, and details of one operation. */

import { $, make, put } from "./dom.js";

const tiles = new Map();
const lights = new Map();
let before = null;

export function drawState(state, now) {
  const { numbers, readiness, redis } = state;
  light("ready", readiness.ready, state.pod, readiness.reason);
  for (const { node, connected, doorbell } of redis.primaries) light(node, connected, "Redis", connected ? `${node}, ${doorbell}` : `${node} unavailable`);
  const sum = (name) => total(numbers[name]);
  const viewers = numbers.tidegate_viewers ?? {};
  const deliveries = sum("tidegate_deliveries_total");
  const entries = sum("tidegate_entries_total");
  const seconds = before ? (now - before.now) / 1000 : 0;
  const rate = (value, then) => (seconds > 0 && value >= then ? `${Math.round((value - then) / seconds).toLocaleString("en")}/s` : "…");
  const limit = numbers.tidegate_connections_limit;
  tile("Connections", `${sum("tidegate_connections")}${limit ? ` of ${limit}` : ""}`);
  tile("Viewers live", count(viewers.live ?? 0));
  tile("Viewers lagging", count((viewers.lagging ?? 0) + (viewers.catching_up ?? 0)), (viewers.lagging ?? 0) > 0);
  tile("Entries", before ? rate(entries, before.entries) : "…");
  tile("Deliveries", before ? rate(deliveries, before.deliveries) : "…");
  tile("Latency to socket, p99", time(numbers.tidegate_publish_to_socket_seconds?.p99));
  tile("Gap frames", count(sum("tidegate_gap_frames_total")));
  tile("Event loop lag, p99", time(numbers.tidegate_loop_lag_seconds?.p99));
  tile("Users connected", count(state.slots.users));
  tile("Replicas", count(state.pod_lease.pods));
  const drain = numbers.tidegate_draining ? `${Math.round(numbers.tidegate_drain_elapsed_seconds)} of ${numbers.tidegate_drain_window_seconds} s` : "no";
  tile("Draining", drain, !!numbers.tidegate_draining);
  tile("Uptime", time(state.uptime_s));
  before = { now, deliveries, entries };
}

/** A number, or the sum of those by label. */
function total(value) {
  if (typeof value === "number") return value;
  return Object.values(value ?? {}).reduce((sum, one) => sum + total(one), 0);
}

const count = (value) => value.toLocaleString("en");

function time(seconds) {
  if (!seconds) return "–";
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(2))} ms`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

function tile(name, text, isBad = false) {
  let shown = tiles.get(name);
  if (!shown) {
    tiles.set(name, (shown = make("div", "", make("dt", "", name), make("dd"))));
    $("tiles").append(shown);
  }
  put(shown.lastElementChild, text);
  shown.classList.toggle("bad", isBad);
}

function light(key, isUp, name, what) {
  let shown = lights.get(key);
  if (!shown) {
    shown = make("li", "light", make("span", "lamp"), make("span", "name"), make("span", "what"));
    lights.set(key, shown);
    $("lights").append(shown);
  }
  shown.dataset.up = String(isUp);
  put(shown.children[1], name);
  put(shown.children[2], what);
}

// --- one operation -------------------------------------------------------------------------------

const ROLES = {
  leading: "this replica",
  following: "another replica",
  listening: "another replica (this one listens)",
};

export function drawPanel({ followed, stream, group, lag, topic, viewers, ring, dispatch, redis }) {
  const parts = [];
  if (topic)
    parts.push(
      part("State", {
        Status: topic.status + (topic.finished ? " (ended)" : ""),
        "On this replica": followed ? topic.state.replaceAll("_", " ") : "no",
        "Delivered up to": topic.cursor,
        "Gap frames": topic.gaps,
        Epoch: topic.epoch,
        Redis: topic.stale_since === null ? "connected" : "unavailable",
      }),
    );
  else parts.push(part("State", { "On this replica": "no viewers" }));
  if (viewers) parts.push(part("Viewers", { Live: viewers.live, Lagging: viewers.lagging, "Catching up": viewers.catching_up, "Ahead of the stream": viewers.ahead }));
  if (dispatch) parts.push(part("Dispatch", { "Dispatched by": ROLES[dispatch.role] ?? dispatch.role, Primary: dispatch.node, "In progress": dispatch.in_flight ? "yes" : "no" }));
  if (lag) parts.push(part("Lag", { Entries: `${lag.entries}${lag.more ? " or more" : ""}`, Time: lag.ms === null ? "unknown" : `${lag.ms} ms` }));
  if (stream)
    parts.push(part("Stream", { First: stream.first, Last: stream.last, Length: count(stream.length), "Added in total": count(stream.entries_added ?? 0) }));
  else if (!redis) parts.push(part("Stream", { "In Redis": "none" }));
  if (group) parts.push(part("Consumer group", { Delivered: group.last_delivered, "Not dispatched": group.lag ?? "unknown", Pending: group.pending, Consumers: group.consumers }));
  if (ring) parts.push(part("Replay buffer", { Frames: `${ring.frames} of ${ring.max_frames}`, Bytes: `${count(ring.bytes)} of ${count(ring.max_bytes)}` }));
  if (redis?.error) parts.push(part("Redis", { Error: redis.error }));
  // Figures change, parts seldom: what is read or selected stays where it is.
  const place = $("panel-parts");
  if (place.childElementCount !== parts.length) return place.replaceChildren(...parts);
  parts.forEach((fresh, at) => {
    const shown = place.children[at];
    if (shown.textContent !== fresh.textContent) shown.replaceWith(fresh);
  });
}

function part(title, facts) {
  const list = make("dl", "facts");
  for (const [name, value] of Object.entries(facts)) list.append(make("div", "", make("dt", "", name), make("dd", "", String(value))));
  return make("section", "", make("h3", "", title), list);
}
