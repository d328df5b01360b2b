/** An operation that has ended, as a line. */

import { make, put } from "./dom.js";
import { ago, duration, STATES } from "./words.js";

const MARKS = { completed: "✓", failed: "!", cancelled: "–" };

export class Row {
  #ago = make("span", "ago");
  #open = make("button", "open");

  constructor(operation, { open }) {
    this.operation = operation;
    const { state, kind, title, id } = operation;
    const mark = make("span", "mark", MARKS[kind] ?? "?");
    mark.setAttribute("aria-hidden", "true");
    const said = kind === "failed" ? state.error || state.message : state.message;
    const took = operation.took(0);
    this.root = make(
      "li",
      "row",
      mark,
      make("b", "", title),
      make("span", "state", STATES[kind]),
      make("span", "message", said),
      make("code", "", id),
      make("span", "took", took === null ? "" : duration(took)),
      this.#ago,
      this.#open,
    );
    this.root.dataset.state = kind;
    this.root.dataset.operation = id;
    this.#open.type = "button";
    this.#open.setAttribute("aria-label", `Open ${title}, ${id}`);
    this.#open.addEventListener("click", () => open(operation));
    this.drawTime(Date.now());
  }

  focus() {
    this.#open.focus();
  }

  drawTime(now) {
    const { endedAt, updatedAt } = this.operation.state;
    const at = endedAt ?? updatedAt;
    put(this.#ago, at === null ? "" : ago(now - at));
  }
}
