/** The page: which operations there are, how they are sorted into cards and lines, and what is said. */

import { Card } from "./card.js";
import { $, make, onFrame, put, toast } from "./dom.js";
import { Row } from "./finished.js";
import { figures, Followed } from "./operation.js";
import { Panel } from "./panel.js";
import { post } from "./post.js";
import { setUpPublishing } from "./publish.js";
import { Replicas } from "./replicas.js";
import { isFinal, STATES } from "./words.js";

const ANNOUNCED_MAX = 48;
const WATCHED_MAX = 16;
const ROWS_SHOWN = 10;
/** So long an operation that has ended stays among those that run. */
const LINGER_MS = 4_000;
const TICK_MS = 1_000;
const OPERATION_ID = /^[A-Za-z0-9_][A-Za-z0-9_.:@~+=-]{0,127}$/;
const STORED = "tidegate.demo.watched";

const cards = new Map();
const rows = new Map();
let replicas;
let panel;
let filter = { text: "", state: "" };
let showsAll = false;

// --- which operations there are ------------------------------------------------------------------

function follow(id, { title = "", isPinned = false } = {}) {
  const known = cards.get(id);
  // What has ended may have begun again since.
  if (known && !(isPinned && known.operation.isOver)) return known.operation;
  if (known) forget(known.operation);
  rows.get(id)?.root.remove();
  rows.delete(id);
  const operation = new Followed(id, { title, isPinned, connection: replicas.choose() });
  const card = new Card(operation, { open, remove: forget });
  cards.set(id, card);
  operation.addEventListener("change", () => changed(operation));
  operation.addEventListener("frame", drawFigures);
  // Those that somebody watches stay in front.
  $("running").insertBefore(card.root, isPinned ? $("running").firstChild : $("running").querySelector(".card:not(.pinned)"));
  makeRoom();
  drawLists();
  return operation;
}

function changed(operation) {
  drawLists();
  if (operation.isPinned || !operation.isOver || operation.isLeaving) return;
  operation.isLeaving = true;
  const { endedAt } = operation.state;
  const since = Date.now() - (endedAt ?? 0);
  // What had ended long before this page was opened need not be among those that run at all.
  setTimeout(() => finish(operation), since > 2 * LINGER_MS ? 0 : LINGER_MS);
}

/** From the cards to the lines. */
function finish(operation) {
  const card = cards.get(operation.id);
  if (card?.operation !== operation) return;
  const row = new Row(operation, { open });
  const isFocused = card.hasFocus();
  const at = (one) => one.operation.state.endedAt ?? one.operation.state.updatedAt ?? 0;
  const next = [...rows.values()].filter((one) => at(one) <= at(row)).sort((a, b) => at(b) - at(a))[0];
  rows.set(operation.id, row);
  $("finished").insertBefore(row.root, next?.root ?? null);
  cards.delete(operation.id);
  card.root.remove();
  if (isFocused) row.focus();
  makeRoom();
  drawLists();
}

function forget(operation) {
  const card = cards.get(operation.id);
  if (card?.operation !== operation) return;
  const isFocused = card.hasFocus();
  operation.close();
  cards.delete(operation.id);
  card.root.remove();
  if (panel.operation === operation) panel.close();
  if (isFocused) $("running").focus();
  store();
  drawLists();
}

/** Bounded: those that have ended make room first, then the oldest. */
function makeRoom() {
  const announced = [...cards.values()].filter(({ operation }) => !operation.isPinned);
  while (rows.size && announced.length + rows.size > ANNOUNCED_MAX) {
    const last = [...rows.values()].find(({ root }) => root === $("finished").lastElementChild);
    last.root.remove();
    rows.delete(last.operation.id);
  }
  for (const { operation } of announced.slice(0, Math.max(0, announced.length - ANNOUNCED_MAX))) forget(operation);
}

/** Announced on an ordinary operation, which is watched like any other. */
function listen(index) {
  const watch = replicas.choose().client.watch(index, { history: ANNOUNCED_MAX });
  let waiting = [];
  watch.addEventListener("frame", ({ frame }) => {
    const { operation, title } = frame.data ?? {};
    if (frame.type !== "operation_listed" || !OPERATION_ID.test(operation)) return;
    if (!waiting.length) setTimeout(addAll, 30); // history comes as a burst: the newest of it will do
    waiting.push([operation, String(title ?? "")]);
  });
  const addAll = () => {
    for (const [operation, title] of waiting.splice(0).slice(-ANNOUNCED_MAX))
      if (!rows.has(operation)) follow(operation, { title });
  };
}

// --- watching any id -----------------------------------------------------------------------------

const pinned = () => [...cards.values()].filter(({ operation }) => operation.isPinned).map(({ operation }) => operation.id);

function store() {
  try {
    sessionStorage.setItem(STORED, JSON.stringify(pinned()));
  } catch {
    // a page without storage forgets them when it is loaded again
  }
}

function watchId(text) {
  const id = text.trim();
  if (!OPERATION_ID.test(id)) {
    put($("watch-error"), "Ids consist of letters, digits and . _ : @ ~ + = - and start with a letter, a digit or _.");
    $("watch-id").setAttribute("aria-invalid", "true");
    return null;
  }
  if (pinned().length >= WATCHED_MAX) {
    put($("watch-error"), `This page can watch at most ${WATCHED_MAX} ids. Remove one of them.`);
    return null;
  }
  put($("watch-error"), "");
  $("watch-id").removeAttribute("aria-invalid");
  const operation = follow(id, { isPinned: true });
  store();
  return operation;
}

function restore() {
  let ids = [];
  try {
    ids = JSON.parse(sessionStorage.getItem(STORED) ?? "[]");
  } catch {
    // nothing to restore
  }
  for (const id of Array.isArray(ids) ? ids : []) if (typeof id === "string") watchId(id);
}

// --- opening one ---------------------------------------------------------------------------------

function open(operation) {
  panel.open(operation);
  const hash = `#${encodeURIComponent(operation.id)}`;
  if (location.hash !== hash) history.replaceState(null, "", hash);
  for (const { root, operation: one } of cards.values()) root.classList.toggle("opened", one === operation);
}

function openHash() {
  let id = "";
  try {
    id = decodeURIComponent(location.hash.slice(1));
  } catch {
    return;
  }
  if (!OPERATION_ID.test(id) || id === "running") return; // that one is the skip link
  const known = cards.get(id)?.operation ?? rows.get(id)?.operation;
  const operation = known ?? watchId(id);
  if (operation) open(operation);
}

function closed() {
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  for (const { root } of cards.values()) root.classList.remove("opened");
}

// --- filter --------------------------------------------------------------------------------------

function setUpFilter() {
  const said = onFrame(() => {
    const count = document.querySelectorAll("[data-operation]:not([hidden])").length;
    put($("filtered"), `${count} operation${count === 1 ? "" : "s"} shown`);
  });
  const apply = () => {
    drawLists();
    said();
  };
  $("search").addEventListener("input", () => {
    filter.text = $("search").value.trim().toLowerCase();
    apply();
  });
  const states = [["", "All"], ...Object.entries(STATES).filter(([state]) => state !== "waiting" && state !== "refused")];
  for (const [state, name] of states) {
    const button = make("button", "chip", make("span", "", name), make("span", "count"));
    button.type = "button";
    button.dataset.state = state;
    button.setAttribute("aria-pressed", String(state === ""));
    button.addEventListener("click", () => {
      filter.state = state;
      for (const other of $("states").children) other.setAttribute("aria-pressed", String(other === button));
      apply();
    });
    $("states").append(button);
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, textarea, select, dialog")) return;
    event.preventDefault();
    $("search").focus();
  });
}

const fits = ({ title, id, kind }) =>
  (!filter.state || kind === filter.state || (filter.state === "running" && kind === "waiting")) &&
  (!filter.text || `${title}\n${id}`.toLowerCase().includes(filter.text));

// --- drawing -------------------------------------------------------------------------------------

const drawLists = onFrame(() => {
  const counts = { "": 0, running: 0, completed: 0, failed: 0, cancelled: 0 };
  let [shownCards, shownRows, running] = [0, 0, 0];
  for (const { operation, root } of cards.values()) {
    counts[""] += 1;
    counts[operation.kind === "waiting" ? "running" : operation.kind] += 1;
    const shown = fits(operation);
    root.hidden = !shown;
    if (shown) shownCards += 1;
    if (shown && !isFinal(operation.kind)) running += 1;
  }
  let hiddenRows = 0;
  for (const root of $("finished").children) {
    const { operation } = rows.get(root.dataset.operation);
    counts[""] += 1;
    counts[operation.kind] += 1;
    const isFit = fits(operation);
    const isOver = isFit && !showsAll && shownRows >= ROWS_SHOWN;
    root.hidden = !isFit || isOver;
    if (isOver) hiddenRows += 1;
    else if (isFit) shownRows += 1;
  }
  put($("running-count"), String(running));
  put($("finished-count"), String(shownRows + hiddenRows));
  $("finished-part").hidden = shownRows === 0;
  $("more").hidden = hiddenRows === 0;
  put($("more"), `Show ${hiddenRows} more`);
  $("empty").hidden = shownCards > 0;
  if (cards.size || rows.size)
    put($("empty"), filter.text || filter.state ? "No running operation matches the filter." : "Nothing is running.");
  for (const chip of $("states").children) put(chip.lastElementChild, String(counts[chip.dataset.state]));
  drawReplicas();
  drawFigures();
});

const lights = new Map();

function drawReplicas() {
  for (const replica of replicas.all) {
    let light = lights.get(replica);
    if (!light) {
      light = make("li", "light", make("span", "lamp"), make("span", "name", `Replica ${replica.number}`), make("span", "what"));
      light.title = replica.host;
      light.dataset.replica = String((replica.number - 1) % 4);
      lights.set(replica, light);
      $("replicas").append(light);
    }
    const isActive = ({ operation }) => operation.replica === replica && !operation.isOver;
    const count = [...cards.values()].filter(isActive).length;
    light.dataset.up = String(replica.isUp);
    put(light.lastElementChild, replica.isUp === null ? "connecting" : replica.isUp ? `${count} live` : "offline");
  }
}

const shownFigures = new Map();
const drawFigures = onFrame(() => {
  const all = {
    "updates received": figures.updates,
    "duplicate or out of order": figures.wrong,
    gaps: figures.gaps,
    reconnects: replicas.reconnects,
  };
  for (const [name, value] of Object.entries(all)) {
    let shown = shownFigures.get(name);
    if (!shown) {
      shown = make("div", "", make("dt", "", name), make("dd"));
      shownFigures.set(name, shown);
      $("figures").append(shown);
    }
    put(shown.lastElementChild, value.toLocaleString("en"));
    shown.classList.toggle("bad", name === "duplicate or out of order" && value > 0);
  }
});

// --- start ---------------------------------------------------------------------------------------

function setUpReplicas() {
  replicas.addEventListener("light", ({ detail: { replica, was } }) => {
    drawReplicas();
    if (was === null) return;
    if (replica.isUp) toast(`Replica ${replica.number} is online again.`, "good");
    else toast(`Replica ${replica.number} is offline. Its operations continue on another replica.`, "warn");
  });
  replicas.addEventListener("moved", ({ detail: { connection, before, replica } }) => {
    for (const card of cards.values()) {
      if (card.operation.connection !== connection) continue;
      if (before && before !== replica) {
        card.operation.movedFrom = before;
        if (!isFinal(card.operation.kind)) card.moved();
      } else card.draw();
    }
    drawLists();
    panel.draw();
  });
}

function setUpCopying() {
  for (const button of document.querySelectorAll("[data-copy]"))
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText($(button.dataset.copy).textContent);
        toast("Copied.");
      } catch {
        getSelection().selectAllChildren($(button.dataset.copy)); // then it is one key away
      }
    });
}

async function start() {
  const demo = await (await fetch("demo.json")).json();
  replicas = new Replicas(demo.replicas.length ? demo.replicas : [location.origin], demo.index);
  panel = new Panel({
    keyPrefix: demo.key_prefix,
    // One that has ended needs a connection of now.
    clientOf: (operation) => (operation.isOver ? replicas.choose() : operation.connection).client,
    stop: ({ id }) => post(replicas, `operations/${encodeURIComponent(id)}/cancel`),
    closed,
  });
  setUpReplicas();
  setUpFilter();
  setUpCopying();
  setUpPublishing(replicas, (id) => {
    const operation = follow(id);
    cards.get(id)?.focus();
    toast(`Started ${operation.id}.`);
  });
  $("watch").addEventListener("submit", (event) => {
    event.preventDefault();
    const operation = watchId($("watch-id").value);
    if (!operation) return;
    $("watch-id").value = "";
    cards.get(operation.id)?.root.scrollIntoView({ block: "nearest" });
    toast(`Watching ${operation.id}.`);
  });
  $("more").addEventListener("click", () => {
    showsAll = true;
    drawLists();
  });
  for (const button of document.querySelectorAll("button[disabled]")) button.disabled = false;
  restore();
  listen(demo.index);
  openHash();
  addEventListener("hashchange", openHash);
  setInterval(() => {
    const now = Date.now();
    for (const card of cards.values()) card.drawTime(now);
    for (const row of rows.values()) row.drawTime(now);
    panel.drawTime(now);
  }, TICK_MS);
  drawLists();
}

start().catch((error) => put($("empty"), `The page could not start (${error.message}). Reload it.`));
