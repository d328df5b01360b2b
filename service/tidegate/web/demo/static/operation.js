/** One operation as the page follows it: its state, its last frames, and the text that it writes. */

import { isFinal, stateOf } from "./words.js";

export const FRAMES_MAX = 500;
const TEXT_MAX_CHARS = 200_000;

/** Of all operations on this page. */
export const figures = { updates: 0, gaps: 0, wrong: 0 };

export class Followed extends EventTarget {
  #watch;
  #release;
  #last = null;
  #epoch = 0;

  constructor(id, { title = "", isPinned = false, connection }) {
    super();
    Object.assign(this, { id, listedAs: title, isPinned, connection });
    this.frames = [];
    /** How many frames were ever received. */
    this.received = 0;
    this.text = "";
    this.movedFrom = null;
    this.#release = connection.use();
    this.#watch = connection.client.watch(id, { history: "all" });
    this.#watch.addEventListener("frame", ({ frame }) => this.#heard(frame));
    this.#watch.addEventListener("change", () => this.#tell());
    for (const type of ["end", "error"])
      this.#watch.addEventListener(type, () => {
        this.#release();
        this.#release = () => {};
        this.#tell();
      });
  }

  /** As the client has it. */
  get state() {
    return this.#watch.state;
  }

  get kind() {
    return stateOf(this.state);
  }

  get title() {
    return this.state.title || this.listedAs || this.id;
  }

  /** Its last entry was received, so nothing more is expected. */
  get isOver() {
    return isFinal(this.kind) && this.state.connection !== "live";
  }

  get replica() {
    return this.connection.replica;
  }

  /** How long it has run, or ran, in ms; null before its start. */
  took(now) {
    const { startedAt, endedAt, updatedAt, finished } = this.state;
    if (startedAt === null) return null;
    return (finished ? (endedAt ?? updatedAt) : now) - startedAt;
  }

  close() {
    this.#watch.close();
  }

  #heard(frame) {
    this.received += 1;
    this.frames.push({ frame, at: Date.now() });
    if (this.frames.length > FRAMES_MAX) this.frames.shift();
    if (frame.id !== null) this.#entry(frame);
    else if (frame.type === "gap") figures.gaps += 1;
    this.dispatchEvent(new Event("frame"));
  }

  #entry(frame) {
    figures.updates += 1;
    if (frame.epoch !== this.#epoch) {
      this.#epoch = frame.epoch; // another log: all of it follows
      this.#last = null;
      this.text = "";
    }
    // The page checks what Tidegate promises: ids only rise.
    const [ms, seq] = frame.id.split("-").map(BigInt);
    const position = (ms << 64n) | seq;
    if (this.#last !== null && position <= this.#last) figures.wrong += 1;
    this.#last = position;
    if (frame.type === "append" && typeof frame.data?.text === "string")
      this.text = (this.text + frame.data.text).slice(-TEXT_MAX_CHARS);
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
