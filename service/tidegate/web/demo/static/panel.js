/** One operation with all that is known of it, and its log; raw frames when they are asked for. */

import { progressOf } from "./card.js";
import { $, make, onFrame, put, toast } from "./dom.js";
import { duration, summary, timeOf, typeName } from "./words.js";

const WARNINGS = new Set(["gap", "skipped", "stale"]);
const LINES_MAX = 300;
/** Wide enough for the panel beside the list. */
const WIDE = matchMedia("(min-width: 72rem)");

export class Panel {
  #keyPrefix;
  #clientOf;
  #stop;
  /** Asked here, and not yet seen to be so. */
  #isStopping = false;
  #dialog = $("panel");
  #list = $("panel-log");
  #facts = new Map();
  #isRaw = false;
  #shown = 0;
  #ended = new AbortController();
  #draw = onFrame(() => this.draw());

  constructor({ keyPrefix, clientOf, stop, closed }) {
    this.operation = null;
    this.#keyPrefix = keyPrefix;
    this.#clientOf = clientOf;
    this.#stop = stop;
    $("panel-stop").addEventListener("click", () => this.#askToStop());
    $("panel-close").addEventListener("click", () => this.#dialog.close());
    // A modal one is closed by the browser; beside the list it is as easy to leave.
    document.addEventListener("keydown", (event) => {
      const isTaken = event.defaultPrevented || event.target.value || document.querySelector(":modal");
      if (event.key === "Escape" && !isTaken) this.#dialog.close();
    });
    this.#dialog.addEventListener("close", () => {
      this.#leave();
      closed();
    });
    WIDE.addEventListener("change", () => this.operation && this.#show());
    $("panel-raw").addEventListener("click", () => {
      this.#isRaw = !this.#isRaw;
      $("panel-raw").setAttribute("aria-pressed", String(this.#isRaw));
      this.#list.classList.toggle("raw", this.#isRaw);
      this.#list.replaceChildren();
      this.#shown = 0;
      this.draw();
    });
  }

  open(operation) {
    if (this.operation === operation) return;
    this.#leave();
    this.operation = operation;
    this.#ended = new AbortController();
    const { signal } = this.#ended;
    operation.addEventListener("change", this.#draw, { signal });
    operation.addEventListener("frame", this.#draw, { signal });
    const bar = progressOf(operation, this.#clientOf(operation));
    bar.removeAttribute("quiet"); // this one was asked for
    $("panel-progress").replaceChildren(bar);
    put($("panel-command"), `XADD ${this.#keyPrefix}${operation.id} * type progress progress 0.7`);
    this.draw();
    this.#show();
  }

  close() {
    this.#dialog.close();
  }

  #show() {
    if (this.#dialog.open) {
      // Beside the list it is not modal, over it it is.
      if (this.#dialog.matches(":modal") !== WIDE.matches) return;
      const { operation } = this;
      this.operation = null; // so that closing leaves nothing
      this.#dialog.close();
      this.operation = operation;
    }
    if (WIDE.matches) this.#dialog.show();
    else this.#dialog.showModal();
    document.body.classList.add("with-panel");
  }

  #leave() {
    if (!this.operation) return;
    this.#ended.abort();
    this.operation = null;
    this.#shown = 0;
    this.#isStopping = false;
    this.#list.replaceChildren();
    $("panel-progress").replaceChildren();
    document.body.classList.remove("with-panel");
  }

  async #askToStop() {
    const { operation } = this;
    this.#isStopping = true;
    this.draw();
    try {
      await this.#stop(operation);
    } catch (error) {
      toast(error.message, "warn");
    } finally {
      if (this.operation === operation) {
        this.#isStopping = false;
        this.draw();
      }
    }
  }

  draw() {
    const { operation } = this;
    if (!operation) return;
    const { state, text, replica } = operation;
    put($("panel-title"), operation.title);
    $("panel-progress").firstElementChild.setAttribute("label", operation.title);
    const isStopping = this.#isStopping || state.status === "cancelling";
    $("panel-stop").hidden = operation.kind !== "running";
    $("panel-stop").disabled = isStopping;
    put($("panel-stop"), isStopping ? "Stopping …" : "Stop");
    $("panel-hint").hidden = operation.kind !== "waiting";
    $("panel-text-part").hidden = !text;
    const box = $("panel-text");
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    put(box, text);
    if (isAtEnd) box.scrollTop = box.scrollHeight;
    this.#fact("Id", operation.id);
    this.#fact("Updates", String(state.entries));
    this.#fact("Gaps", state.gaps ? String(state.gaps) : "none");
    if (state.total !== null) this.#fact("Count", `${state.current ?? 0} of ${state.total}`);
    this.#fact("Served by", replica ? `replica ${replica.number} (${replica.host})` : "not connected yet");
    if (state.cursor) this.#fact("Last update", state.cursor);
    this.drawTime(Date.now());
    this.#drawLog();
  }

  drawTime(now) {
    const took = this.operation?.took(now) ?? null;
    if (took !== null) this.#fact(this.operation.state.finished ? "Took" : "Running for", duration(took));
    for (const name of ["Took", "Running for"]) {
      const fact = this.#facts.get(name);
      if (fact) fact.hidden = took === null || (name === "Took") !== !!this.operation?.state.finished;
    }
  }

  #fact(name, text) {
    let fact = this.#facts.get(name);
    if (!fact) {
      fact = make("div", "", make("dt", "", name), make("dd"));
      this.#facts.set(name, fact);
      $("panel-facts").append(fact);
    }
    put(fact.lastElementChild, text);
  }

  /** The newest frames go to the top. */
  #drawLog() {
    const { operation } = this;
    const fresh = Math.min(operation.received - this.#shown, operation.frames.length);
    this.#shown = operation.received;
    for (const one of fresh > 0 ? operation.frames.slice(-fresh) : []) {
      const joined = !this.#isRaw && this.#join(one);
      if (!joined) this.#list.prepend(this.#isRaw ? raw(one) : line(one));
    }
    while (this.#list.childElementCount > LINES_MAX) this.#list.lastElementChild.remove();
    for (const fact of ["Count", "Last update"]) {
      const shown = fact === "Count" ? operation.state.total !== null : !!operation.state.cursor;
      const element = this.#facts.get(fact);
      if (element) element.hidden = !shown;
    }
  }

  /** Tokens one behind another are one line. */
  #join({ frame }) {
    const top = this.#list.firstElementChild;
    if (frame.type !== "append" || frame.id === null || top?.dataset.type !== "append") return false;
    const count = Number(top.dataset.count) + lengthOf(frame);
    top.dataset.count = String(count);
    put(top.lastElementChild, `${count} characters of text`);
    return true;
  }
}

/** Of its text. How many frames bring a text depends on when the page came. */
const lengthOf = ({ data }) => (typeof data?.text === "string" ? data.text.length : 0);

function line({ frame, at }) {
  const isEntry = frame.id !== null;
  const isToken = isEntry && frame.type === "append";
  const item = make(
    "li",
    isEntry ? "" : WARNINGS.has(frame.type) ? "warn" : "note",
    make("time", "", timeOf(frame, at)),
    make("b", "", isEntry ? typeName(frame.type) : "gateway"),
    make("span", "", isToken ? `${lengthOf(frame)} characters of text` : summary(frame)),
  );
  item.dataset.type = isEntry ? frame.type : "";
  item.dataset.count = String(isToken ? lengthOf(frame) : 0);
  return item;
}

function raw({ frame }) {
  const { id, operation, timestamp, type, data } = frame;
  const shown = id === null ? { type, operation, data } : { id, operation, timestamp, type, data };
  const item = make("li", id === null ? "note" : "", make("code", "", JSON.stringify(shown)));
  if (id !== null) item.dataset.id = id;
  return item;
}
