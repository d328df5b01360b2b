/** Rows of a table by key: kept while they are there, so that what has the focus keeps it. */

import { make, put } from "./dom.js";

export class Rows {
  #body;
  #columns;
  #open;
  #lines = new Map();

  /** `open(key)` is called for the button in the first cell; without it the cell is a heading. */
  constructor(body, columns, open = null) {
    this.#body = body;
    this.#columns = columns;
    this.#open = open;
  }

  /** `rows`: `{ key, name, cells: [text or { text, className } or { node }] , opened }`, in order. */
  draw(rows) {
    const kept = new Set(rows.map(({ key }) => key));
    for (const [key, line] of this.#lines) {
      if (kept.has(key)) continue;
      line.remove();
      this.#lines.delete(key);
    }
    rows.forEach(({ key, name, cells, opened = false }, at) => {
      let line = this.#lines.get(key);
      if (!line) this.#lines.set(key, (line = this.#line(key)));
      put(this.#open ? line.firstElementChild.firstElementChild : line.firstElementChild, name);
      cells.forEach((cell, index) => fill(line.children[index + 1], cell));
      line.classList.toggle("opened", opened);
      // Moved only where it has to be.
      if (this.#body.children[at] !== line) this.#body.insertBefore(line, this.#body.children[at] ?? null);
    });
  }

  #line(key) {
    const head = make("th");
    head.scope = "row";
    if (this.#open) {
      const button = make("button");
      button.type = "button";
      button.addEventListener("click", () => this.#open(key));
      head.append(button);
    }
    return make("tr", "", head, ...Array.from({ length: this.#columns }, () => make("td")));
  }
}

function fill(place, cell) {
  const { text = String(cell), className = "", progress = null } = typeof cell === "object" ? cell : {};
  place.className = className;
  if (progress === null) return put(place, text);
  let bar = place.querySelector("progress");
  if (!bar) {
    bar = make("progress");
    bar.setAttribute("aria-label", "Drain");
    place.replaceChildren(make("span"), bar);
  }
  put(place.firstElementChild, text);
  [bar.value, bar.max] = progress;
}
