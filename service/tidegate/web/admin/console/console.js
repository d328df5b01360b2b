/** The console: all replicas, asked through this one every few seconds while somebody looks. */

import { ask, Refused, setToken } from "./api.js";
import { $, put, toast } from "./dom.js";
import { count, plural, range, sum, timeOfId } from "./format.js";
import { clearParts, drawParts, operationParts, userParts } from "./panel.js";
import { drawReplicas, namesOf } from "./replicas.js";
import { Rows } from "./table.js";

const EVERY_MS = 3_000;
/** Typing is over after this. */
const TYPING_MS = 300;

let order = "viewers";
let seen = null;
/** `{ kind: "operation" or "user", id }` in the panel. */
let opened = null;
let timer;
let isAsking = false;
/** Asked for once more while one was under way: in another order, or with a token. */
let isWanted = false;

const operationRows = new Rows($("operation-rows"), 7, (id) => open("operation", id));
const userRows = new Rows($("user-rows"), 3, (id) => open("user", id));

// --- asking --------------------------------------------------------------------------------------

async function look() {
  clearTimeout(timer);
  isWanted ||= isAsking;
  if (isAsking || document.hidden) return;
  isAsking = true;
  try {
    const query = { order, search: $("search").value.trim(), user_search: $("user-search").value.trim() };
    seen = await ask("/debug/gateway", { query });
    $("sign-in").hidden = true;
    $("inside").hidden = false;
    put($("away"), seen.redis_error === null ? "" : `Other replicas cannot be reached: ${seen.redis_error}. Only this replica is shown.`);
    drawReplicas(seen, Date.now());
    drawLists();
    if (opened !== null) await inspect();
  } catch (error) {
    failed(error);
  } finally {
    isAsking = false;
    const isNow = isWanted;
    isWanted = false;
    if (isNow) look();
    else if ($("sign-in").hidden) timer = setTimeout(look, EVERY_MS);
  }
}

function failed(error) {
  if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
    const wasInside = !$("inside").hidden;
    $("inside").hidden = true;
    $("panel").close();
    $("sign-in").hidden = false;
    put($("sign-in-why"), error.status === 403 ? error.message : "The console requires the admin token.");
    $("sign-in-form").hidden = error.status === 403;
    put($("sign-in-error"), $("token").value || wasInside ? "This is not the admin token of this replica." : "");
    $("token").focus();
    return;
  }
  const text = error instanceof Refused ? error.message : "The replica does not respond.";
  put($("away"), `${text} Retrying.`);
}

async function inspect() {
  const { kind, id } = opened;
  try {
    const found = await ask(`/debug/gateway/${kind}s/${encodeURIComponent(id)}`);
    if (opened?.id !== id || opened.kind !== kind) return;
    put($("panel-error"), "");
    drawParts(kind === "operation" ? operationParts(found) : userParts(found, rowOf(id)));
  } catch (error) {
    if (!(error instanceof Refused) || error.status === 401) throw error;
    if (error.status !== 429) clearParts(error.message);
  }
}

const rowOf = (user) => seen?.users.rows.find((row) => row.user === user);

// --- lists ---------------------------------------------------------------------------------------

function drawLists() {
  if (!seen) return;
  const names = namesOf(seen.replicas);
  const podsOf = (incarnations) => incarnations.map((one) => names.get(one) ?? one).join(", ");
  const { operations, users } = seen;
  put($("operation-count"), shownOf(operations));
  operationRows.draw(
    operations.rows.map((row) => ({
      key: row.operation,
      name: row.operation,
      opened: opened?.kind === "operation" && opened.id === row.operation,
      cells: [
        row.status + (row.finished ? " (ended)" : ""),
        sum(row.live + row.lagging + row.catching_up, row.complete),
        { text: count(row.lagging), className: row.lagging ? "warn" : "" },
        count(row.entries),
        count(row.replicas.length),
        podsOf(row.dispatchers) || "–",
        timeOfId(row.cursor),
      ],
    })),
  );
  const isSearching = $("search").value.trim() !== "";
  empty("operation-empty", operations, isSearching ? "No operation with viewers matches. Look up also finds operations without viewers." : "No operation has viewers.");
  put($("user-count"), shownOf(users));
  userRows.draw(
    users.rows.map((row) => ({
      key: row.user,
      name: row.user,
      opened: opened?.kind === "user" && opened.id === row.user,
      cells: [
        { text: `${row.slots === null ? "–" : count(row.slots)} of ${count(row.limit)}`, className: row.slots >= row.limit ? "warn" : "" },
        sum(row.connections, row.complete),
        podsOf(row.replicas),
      ],
    })),
  );
  empty("user-empty", users, $("user-search").value.trim() ? "No connected user matches." : "No user has a slot: nobody is connected, or users are not authenticated.");
  for (const head of document.querySelectorAll("[data-order]")) {
    if (head.dataset.order === order) head.setAttribute("aria-sort", "descending");
    else head.removeAttribute("aria-sort");
  }
}

function shownOf({ rows, ...known }) {
  return known.at_most > rows.length ? `${range(known)} (first ${rows.length} shown)` : count(rows.length);
}

function empty(id, { rows }, text) {
  $(id).hidden = rows.length > 0;
  put($(id), text);
}

function open(kind, id) {
  opened = { kind, id };
  put($("panel-title"), id);
  clearParts();
  put($("panel-disconnect"), kind === "operation" ? "Disconnect its viewers" : "Disconnect");
  $("panel-revoke").hidden = kind !== "user";
  const isWide = matchMedia("(min-width: 72rem)").matches;
  if (!$("panel").open) isWide ? $("panel").show() : $("panel").showModal();
  document.body.classList.add("with-panel");
  drawLists();
  inspect().catch(failed);
}

// --- what changes something ----------------------------------------------------------------------

/** Asks first. What is done is done on all replicas. */
function confirmed(title, text, word, path, query = {}) {
  put($("sheet-title"), title);
  put($("sheet-text"), text);
  put($("sheet-do"), word);
  put($("sheet-error"), "");
  $("sheet").showModal();
  $("sheet-form").onsubmit = async (event) => {
    event.preventDefault();
    try {
      const { replicas } = await ask(path, { method: "POST", query: { ...query, reason: "console" } });
      $("sheet").close();
      toast(`Sent to ${plural(replicas, "replica")}.`, "good");
      look();
    } catch (error) {
      put($("sheet-error"), error instanceof Refused ? error.message : "The replica does not respond.");
    }
  };
}

// Ids of users may have slashes, and are one part of the path for the replica all the same.
const pathOf = ({ kind, id }) => `/admin/${kind}s/${encodeURIComponent(id)}/disconnect`;

function disconnect() {
  const { kind, id } = opened;
  const text =
    kind === "operation"
      ? "All its viewers are disconnected, on all replicas. They may connect again if they are still authorized."
      : "All connections of this user are closed, on all replicas. A viewer whose token is valid may connect again.";
  confirmed(kind === "operation" ? `Disconnect the viewers of ${id}?` : `Disconnect ${id}?`, text, "Disconnect", pathOf(opened));
}

function revoke() {
  const text = "All tokens of this user that were issued until now are rejected, and connections that use them are closed, on all replicas.";
  confirmed(`Revoke the tokens of ${opened.id}?`, text, "Revoke", pathOf(opened), { issued_before: Math.ceil(Date.now() / 1000) });
}

// --- start ---------------------------------------------------------------------------------------

$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken($("token").value.trim());
  put($("sign-in-error"), "");
  look();
});
for (const [form, input, kind] of [["find", "search", "operation"], ["find-user", "user-search", "user"]]) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const id = $(input).value.trim();
    if (id) open(kind, id);
  });
  let typing;
  $(input).addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(look, TYPING_MS);
  });
}
for (const head of document.querySelectorAll("[data-order]"))
  head.firstElementChild.addEventListener("click", () => {
    order = head.dataset.order;
    drawLists();
    look();
  });
$("panel-close").addEventListener("click", () => $("panel").close());
$("panel").addEventListener("close", () => {
  if ($("panel").open) return; // opened again before this event
  opened = null;
  document.body.classList.remove("with-panel");
  drawLists();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector(":modal") && !event.target.value) $("panel").close();
});
$("panel-disconnect").addEventListener("click", disconnect);
$("panel-revoke").addEventListener("click", revoke);
$("sheet-cancel").addEventListener("click", () => $("sheet").close());
document.addEventListener("visibilitychange", look);
look();
