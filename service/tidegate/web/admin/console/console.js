/** The console: one replica from the inside, asked every few seconds while somebody looks. */

import { ask, Refused, setToken } from "./api.js";
import { $, make, put, toast } from "./dom.js";
import { drawPanel, drawState } from "./views.js";

const EVERY_MS = 3_000;
const SHOWN_MAX = 200;

let order = "viewers";
let rows = [];
let opened = null;
let timer;
let isAsking = false;
/** Asked for once more while one was under way: in another order, or with a token. */
let isWanted = false;

// --- asking --------------------------------------------------------------------------------------

async function look() {
  clearTimeout(timer);
  isWanted ||= isAsking;
  if (isAsking || document.hidden) return;
  isAsking = true;
  try {
    const state = await ask("/debug/state");
    const list = await ask("/debug/operations", { query: { limit: SHOWN_MAX, order } });
    $("sign-in").hidden = true;
    $("inside").hidden = false;
    put($("away"), "");
    drawState(state, Date.now());
    rows = list.operations;
    put($("count"), list.omitted ? `${list.count} (first ${rows.length} shown)` : String(list.count));
    drawRows();
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
    put($("sign-in-why"), error.status === 403 ? error.message : "The console of this replica requires its admin token.");
    $("sign-in-form").hidden = error.status === 403;
    put($("sign-in-error"), $("token").value || wasInside ? "This is not the admin token of this replica." : "");
    $("token").focus();
    return;
  }
  const text = error instanceof Refused ? error.message : "The replica does not respond.";
  put($("away"), `${text} Retrying.`);
}

async function inspect() {
  const operation = opened;
  try {
    const found = await ask(`/debug/operations/${encodeURIComponent(operation)}`);
    if (opened !== operation) return;
    put($("panel-error"), "");
    drawPanel(found);
  } catch (error) {
    if (!(error instanceof Refused) || error.status === 401) throw error;
    $("panel-parts").replaceChildren();
    put($("panel-error"), error.message);
  }
}

// --- operations ----------------------------------------------------------------------------------

const lines = new Map();

function drawRows() {
  const wanted = $("search").value.trim().toLowerCase();
  const shown = rows.filter(({ operation }) => operation.toLowerCase().includes(wanted));
  const kept = new Set(shown.map(({ operation }) => operation));
  for (const [operation, line] of lines) {
    if (kept.has(operation)) continue;
    line.remove();
    lines.delete(operation);
  }
  shown.forEach((row, at) => {
    let line = lines.get(row.operation);
    if (!line) lines.set(row.operation, (line = newLine(row.operation)));
    const [, status, viewers, lagging, entries, last] = line.children;
    put(status, row.status + (row.finished ? " (ended)" : ""));
    put(viewers, String(row.live + row.lagging + row.catching_up));
    put(lagging, String(row.lagging));
    lagging.className = row.lagging ? "warn" : "";
    put(entries, row.entries.toLocaleString("en"));
    put(last, row.cursor === "0-0" ? "" : row.cursor);
    line.classList.toggle("opened", row.operation === opened);
    // Moved only where it has to be: what has the focus keeps it.
    if ($("rows").children[at] !== line) $("rows").insertBefore(line, $("rows").children[at] ?? null);
  });
  $("empty").hidden = shown.length > 0;
  put($("empty"), rows.length ? "No match in this list. Look up searches Redis as well." : "No operation has viewers on this replica.");
  for (const head of document.querySelectorAll("[data-order]")) {
    if (head.dataset.order === order) head.setAttribute("aria-sort", "descending");
    else head.removeAttribute("aria-sort");
  }
}

function newLine(operation) {
  const button = make("button", "", operation);
  button.type = "button";
  button.addEventListener("click", () => open(operation));
  return make("tr", "", make("td", "", button), ...Array.from({ length: 5 }, () => make("td")));
}

function open(operation) {
  opened = operation;
  put($("panel-title"), operation);
  $("panel-parts").replaceChildren();
  put($("panel-error"), "");
  const isWide = matchMedia("(min-width: 72rem)").matches;
  if (!$("panel").open) isWide ? $("panel").show() : $("panel").showModal();
  document.body.classList.add("with-panel");
  drawRows();
  inspect().catch(failed);
}

// --- what changes something ----------------------------------------------------------------------

/** Asks first. `path` is told on all replicas. */
function confirmed(title, text, word, path, query = {}) {
  put($("sheet-title"), title);
  put($("sheet-text"), text);
  put($("sheet-do"), word);
  put($("sheet-error"), "");
  $("sheet").showModal();
  $("sheet-form").onsubmit = async (event) => {
    event.preventDefault();
    try {
      const { replicas } = await ask(path, { method: "POST", query });
      $("sheet").close();
      toast(`Sent to ${replicas} replica${replicas === 1 ? "" : "s"}.`, "good");
      look();
    } catch (error) {
      put($("sheet-error"), error instanceof Refused ? error.message : "The replica does not respond.");
    }
  };
}

function actOnUser(event) {
  event.preventDefault();
  const user = $("user").value.trim();
  if (!user) return put($("user-error"), "Enter the id of a user.");
  put($("user-error"), "");
  // Ids may have slashes, and are one part of the path for the replica all the same.
  const path = `/admin/users/${encodeURIComponent(user)}/disconnect`;
  if (event.submitter?.value === "revoke") {
    const text = "All tokens of this user that were issued until now are rejected, and connections that use them are closed, on all replicas.";
    confirmed(`Revoke the tokens of ${user}?`, text, "Revoke", path, { issued_before: Math.ceil(Date.now() / 1000), reason: "console" });
  } else {
    const text = "All connections of this user are closed, on all replicas. A viewer whose token is valid may connect again.";
    confirmed(`Disconnect ${user}?`, text, "Disconnect", path, { reason: "console" });
  }
}

// --- start ---------------------------------------------------------------------------------------

$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken($("token").value.trim());
  put($("sign-in-error"), "");
  look();
});
$("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = $("search").value.trim();
  if (id) open(id);
});
$("search").addEventListener("input", drawRows);
for (const head of document.querySelectorAll("[data-order]"))
  head.firstElementChild.addEventListener("click", () => {
    order = head.dataset.order;
    drawRows();
    look();
  });
$("panel-close").addEventListener("click", () => $("panel").close());
$("panel").addEventListener("close", () => {
  opened = null;
  document.body.classList.remove("with-panel");
  drawRows();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector(":modal") && !event.target.value) $("panel").close();
});
$("panel-disconnect").addEventListener("click", () => {
  const text = "All its viewers are disconnected, on all replicas. They may connect again if they are still authorized.";
  confirmed(`Disconnect the viewers of ${opened}?`, text, "Disconnect", `/admin/operations/${encodeURIComponent(opened)}/disconnect`, { reason: "console" });
});
$("user-form").addEventListener("submit", actOnUser);
$("sheet-cancel").addEventListener("click", () => $("sheet").close());
document.addEventListener("visibilitychange", look);
look();
