/** All replicas: the sums as tiles, the status lights, and a row for each. */

import { $, make, put } from "./dom.js";
import { count, time } from "./format.js";
import { Rows } from "./table.js";

const tiles = new Map();
const lights = new Map();
const rows = new Rows($("replica-rows"), 10);
/** Totals of the last time, by incarnation: rates are made from them. */
let before = new Map();

export function drawReplicas(seen, now) {
  const { replicas, redis_error: redisError, omitted_replicas: omitted } = seen;
  const answered = replicas.filter((replica) => replica.answered);
  const rates = ratesOf(answered, now);
  const add = (of) => answered.reduce((sum, replica) => sum + (of(replica) ?? 0), 0);
  const worst = (of) => Math.max(0, ...answered.map((replica) => of(replica) ?? 0));
  const ready = answered.filter(({ figures }) => figures.ready);
  const redis = redisError === null && answered.every(({ figures }) => figures.redis_connected);
  light("replicas", ready.length === replicas.length, "Replicas", `${ready.length} of ${replicas.length + omitted} ready`);
  light("redis", redis, "Redis", redis ? "connected" : "unavailable");

  const limits = answered.map(({ figures }) => figures.connections_max);
  const limit = limits.includes(null) ? "" : ` of ${count(limits.reduce((a, b) => a + b, 0))}`;
  tile("Connections", count(add(({ figures }) => figures.connections)) + limit);
  tile("Viewers live", count(add(({ viewers }) => viewers.live)));
  const lagging = add(({ viewers }) => viewers.lagging);
  tile("Viewers lagging", count(lagging), lagging > 0);
  tile("Deliveries", rates.size ? `${count(Math.round([...rates.values()].reduce((a, b) => a + b, 0)))}/s` : "…");
  tile("Delivery, p99, slowest", time(worst(({ figures }) => figures.delivery_p99_s)));
  tile("Event loop lag, p99, slowest", time(worst(({ figures }) => figures.loop_lag_p99_s)));
  const waiting = add(({ figures }) => figures.undispatched);
  tile("Not dispatched", count(waiting));
  tile("Gap frames", count(add(({ figures }) => figures.gaps)));

  const silent = replicas.length - answered.length;
  put($("replica-count"), [`${replicas.length + omitted}`, silent && `${silent} without a response`, omitted && `${omitted} not shown`].filter(Boolean).join(", "));
  rows.draw(replicas.map((replica) => row(replica, seen.pod, rates)));
}

/** Names of replicas by incarnation. */
export function namesOf(replicas) {
  return new Map(replicas.map(({ incarnation, pod }) => [incarnation, pod]));
}

function row(replica, ownPod, rates) {
  const { incarnation, pod, answered, lease } = replica;
  const name = pod === ownPod ? `${pod} (this one)` : pod;
  if (!answered) {
    const lag = lease.loop_lag_ms === undefined ? "–" : time(lease.loop_lag_ms / 1000);
    const told = lease.connections === undefined ? "–" : count(lease.connections);
    return { key: incarnation, name, cells: [{ text: "No response", className: "bad" }, told, "–", "–", "–", "–", lag, "–", "–", "–"] };
  }
  const { figures, viewers } = replica;
  const rate = rates.get(incarnation);
  const cells = [
    stateOf(figures),
    count(figures.connections),
    count(viewers.live + viewers.lagging + viewers.catching_up),
    { text: count(viewers.lagging), className: viewers.lagging ? "warn" : "" },
    rate === undefined ? "…" : `${count(Math.round(rate))}/s`,
    time(figures.delivery_p99_s),
    time(figures.loop_lag_p99_s),
    count(figures.undispatched),
    figures.version,
    time(figures.uptime_s),
  ];
  return { key: incarnation, name, cells };
}

function stateOf({ ready, reason, drain, connections }) {
  if (drain) {
    const all = drain.moved + connections;
    const text = `Draining, ${Math.round(drain.elapsed_s)} of ${Math.round(drain.window_s)} s, ${count(drain.moved)} of ${count(all)} moved`;
    return { text, className: "warn drain", progress: [drain.moved, Math.max(1, all)] };
  }
  return ready ? { text: "Ready", className: "good" } : { text: `Not ready: ${reason}`, className: "bad" };
}

function ratesOf(answered, now) {
  const rates = new Map();
  const totals = new Map();
  for (const { incarnation, figures } of answered) {
    const then = before.get(incarnation);
    const seconds = then ? (now - then.now) / 1000 : 0;
    if (seconds > 0 && figures.deliveries >= then.deliveries) rates.set(incarnation, (figures.deliveries - then.deliveries) / seconds);
    totals.set(incarnation, { now, deliveries: figures.deliveries });
  }
  before = totals;
  return rates;
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
