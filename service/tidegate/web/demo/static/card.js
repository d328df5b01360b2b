/** An operation that runs, or that somebody watches, as a card. */

import { make, onFrame, put } from "./dom.js";
import { duration } from "./words.js";

const PREVIEW_CHARS = 280;

export function progressOf(operation, client) {
  const bar = make("tidegate-progress");
  bar.client = client;
  bar.setAttribute("quiet", ""); // one of many: the page says what matters
  bar.setAttribute("label", operation.title);
  bar.setAttribute("operation", operation.id);
  return bar;
}

export class Card {
  #bar;
  #written = make("span");
  #preview = make("p", "preview", this.#written);
  #advice = make("p", "advice", "Nothing published yet. Open for the command.");
  #when = make("span");
  #served = make("span", "served");
  #open = make("button", "open");

  constructor(operation, { open, remove }) {
    this.operation = operation;
    this.#bar = progressOf(operation, operation.connection.client);
    this.#preview.setAttribute("aria-hidden", "true");
    this.#open.type = "button";
    this.#open.addEventListener("click", () => open(operation));
    const foot = make("div", "foot", make("code", "", operation.id), this.#when, this.#served);
    this.root = make("li", "card", this.#bar, this.#preview, this.#advice, foot, this.#open);
    this.root.dataset.operation = operation.id;
    if (operation.isPinned) {
      const button = make("button", "remove", "✕");
      button.type = "button";
      button.setAttribute("aria-label", `Stop watching ${operation.id}`);
      button.title = "Stop watching";
      button.addEventListener("click", () => remove(operation));
      this.root.append(button);
      this.root.classList.add("pinned");
    }
    const draw = onFrame(() => this.draw());
    operation.addEventListener("change", draw);
    operation.addEventListener("frame", draw);
    this.draw();
  }

  /** Its replica is another one. */
  moved() {
    this.root.classList.remove("moved");
    void this.root.offsetWidth; // begins the animation anew
    this.root.classList.add("moved");
    this.draw();
  }

  hasFocus() {
    return this.root.contains(document.activeElement);
  }

  focus() {
    this.#open.focus();
  }

  draw() {
    const { operation, root } = this;
    const { replica, text, kind, title } = operation;
    root.dataset.state = kind;
    if (this.#bar.getAttribute("label") !== title) this.#bar.setAttribute("label", title);
    this.#open.setAttribute("aria-label", `Open ${title}, ${operation.id}`);
    put(this.#written, text.length > PREVIEW_CHARS ? `…${text.slice(-PREVIEW_CHARS)}` : text);
    this.#preview.hidden = !text;
    this.#advice.hidden = !(kind === "waiting" && operation.isPinned);
    put(this.#served, replica ? `replica ${replica.number}` : "");
    this.#served.dataset.replica = replica ? String((replica.number - 1) % 4) : "";
    this.drawTime(Date.now());
  }

  drawTime(now) {
    const took = this.operation.took(now);
    put(this.#when, took === null ? "" : duration(took));
  }
}
