/**
 * `<tidegate-progress operation="42">`: an operation as a bar, without a framework.
 *
 * Looks: the parts `head`, `title`, `status`, `stop`, `track`, `fill`, `foot`, `message`, `time` and `note`,
 * and the variables in STYLE. Colours come from the text around it, so it is right on light and dark.
 * State: `:state(waiting)`, `running`, `completed`, `failed`, `cancelled`, `indeterminate`, `stale`,
 * `gap`, `offline`, `refused`. Texts: `TidegateProgress.texts`.
 * With the attribute `cancellable` there is a button while the operation runs, which asks to stop it.
 * Screen readers are told of changes; not where there is the attribute `quiet`, as for one in a list of many.
 */

import { TidegateClient, type Watch, type WatchState } from "./index.js";
import { createRemaining } from "./remaining.js";

export { TidegateClient } from "./index.js";
export { createRemaining, type Remaining } from "./remaining.js";

const STYLE = `
:host {
  --_accent: var(--tidegate-accent, light-dark(#2563a8, #6cabf0));
  --_success: var(--tidegate-success, light-dark(#1f7a4d, #5cc48d));
  --_danger: var(--tidegate-danger, light-dark(#b3261e, #f2867d));
  --_warning: var(--tidegate-warning, light-dark(#8a5a00, #e0b14e));
  --_muted: var(--tidegate-muted, color-mix(in srgb, currentColor 68%, transparent));
  --_track: var(--tidegate-track, color-mix(in srgb, currentColor 14%, transparent));
  --_height: var(--tidegate-height, .5rem);
  --_radius: var(--tidegate-radius, 99rem);
  --_tone: var(--_accent);
  display: block;
  font: var(--tidegate-font, 400 .9375rem/1.4 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif);
}
:host([hidden]) { display: none; }
.box { display: grid; gap: .375rem; }
.box[data-tone=muted] { --_tone: var(--_muted); }
.box[data-tone=success] { --_tone: var(--_success); }
.box[data-tone=danger] { --_tone: var(--_danger); }
.box[data-tone=warning] { --_tone: var(--_warning); }
.row { display: flex; gap: .75rem; align-items: baseline; justify-content: space-between; min-inline-size: 0; }
.title { flex: 1; font-weight: 600; min-inline-size: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.status { color: var(--_tone); font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums; }
.stop { font: inherit; font-size: .875em; color: inherit; padding: 0 .625rem; border: 1px solid var(--_muted); border-radius: .375rem; background: none; cursor: pointer; white-space: nowrap; }
.stop:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
.stop[aria-disabled=true] { color: var(--_muted); cursor: default; }
.stop[hidden] { display: none; }
.track { block-size: var(--_height); border-radius: var(--_radius); background: var(--_track); overflow: hidden; position: relative; }
.fill { position: absolute; inset-block: 0; inset-inline-start: 0; inline-size: 0; border-radius: inherit; background: var(--_tone); transition: inline-size .3s ease-out, background-color .2s; }
.box[data-busy] .fill { inline-size: 35%; animation: slide 1.4s ease-in-out infinite; }
.box[data-stale] .fill { opacity: .55; background-image: repeating-linear-gradient(45deg, transparent 0 .4rem, color-mix(in srgb, Canvas 35%, transparent) .4rem .8rem); }
.foot { color: var(--_muted); font-size: .875em; }
.foot:not(.some) { display: none; }
.message { min-inline-size: 0; overflow-wrap: anywhere; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
.box[data-tone=danger] .message { color: var(--_danger); -webkit-line-clamp: 4; }
.time { white-space: nowrap; font-variant-numeric: tabular-nums; }
.note { color: var(--_warning); font-size: .875em; }
.note:empty { display: none; }
.note::before { content: "\\26A0\\FE0E"; margin-inline-end: .35em; }
.said { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@keyframes slide { from { inset-inline-start: -35%; } to { inset-inline-start: 100%; } }
@keyframes pulse { 50% { opacity: .45; } }
@media (prefers-reduced-motion: reduce) {
  .fill { transition: none; }
  .box[data-busy] .fill { inline-size: 100%; animation: pulse 2.4s ease-in-out infinite; }
}
@media (forced-colors: active) {
  .track { border: 1px solid CanvasText; }
  .fill { background: Highlight; forced-color-adjust: none; }
}`;

/** What it says, in English; assign to change or translate. `{...}` is filled in. */
const TEXTS = {
  waiting: "Not started",
  running: "Running",
  cancelling: "Cancelling…",
  completed: "Completed",
  failed: "Failed",
  cancelled: "Cancelled",
  refused: "Not available",
  stale: "Updates are delayed",
  offline: "Reconnecting",
  gap: "Some updates are missing",
  left: "{time} left",
  stop: "Stop",
  notStopped: "Not stopped: {reason}",
  progress: "Progress",
};
const TONES: Readonly<Record<string, string>> = {
  waiting: "muted",
  completed: "success",
  failed: "danger",
  cancelled: "warning",
  refused: "danger",
};
const PARTS = ["title", "status", "stop", "track", "fill", "message", "time", "note", "said"] as const;
/** A connection that is away for less is not worth a word. */
const OFFLINE_MS = 2_000;
const TICK_MS = 1_000;
/** Screen readers are told of each so many percent. */
const SAID_PERCENT = 25;

type Part = (typeof PARTS)[number];

const clients = new Map<string, TidegateClient>();
let sheet: CSSStyleSheet | undefined;

const Base = (globalThis.HTMLElement ?? class {}) as typeof HTMLElement; // a server has none

export class TidegateProgress extends Base {
  static readonly observedAttributes = ["operation", "url", "history", "label", "cancellable"];
  static texts = { ...TEXTS };
  /** For all elements that have no client of their own; else it is made from the attribute `url`. */
  static client: TidegateClient | undefined;

  #client: TidegateClient | undefined;
  #watch: Watch | undefined;
  #parts: Record<Part | "box" | "foot", HTMLElement> | undefined;
  #internals: ElementInternals | undefined;
  #remaining = createRemaining();
  #timer: ReturnType<typeof setInterval> | undefined;
  #away = 0;
  /** The button was pressed: no answer yet, or nothing was heard since it was accepted. */
  #cancel: "" | "asked" | "accepted" = "";
  /** Why it was refused. */
  #refusal = "";
  #said = "";
  #queued = false;

  get client(): TidegateClient | undefined {
    return this.#client;
  }

  set client(client: TidegateClient | undefined) {
    this.#client = client;
    this.#begin();
  }

  /** What is shown; undefined while nothing is watched. */
  get state(): WatchState | undefined {
    return this.#watch?.state;
  }

  get operation(): string {
    return this.getAttribute("operation") ?? "";
  }

  set operation(id: string) {
    this.setAttribute("operation", id);
  }

  connectedCallback(): void {
    this.#build();
    this.#begin();
  }

  disconnectedCallback(): void {
    this.#leave();
  }

  attributeChangedCallback(name: string, before: string | null, now: string | null): void {
    if (before === now || !this.#parts) return;
    if (name === "label" || name === "cancellable") this.#draw();
    else this.#begin();
  }

  // -- watching -----------------------------------------------------------------------------------

  /** Attributes come one by one; what they ask for together begins behind them. */
  #begin(): void {
    if (this.#queued || !this.isConnected) return;
    this.#queued = true;
    queueMicrotask(() => {
      this.#queued = false;
      this.#leave();
      if (!this.isConnected) return;
      this.#draw();
      const id = this.operation;
      if (!id) return;
      const history = this.getAttribute("history");
      try {
        const watch = (this.#watch = this.#clientNow().watch(id, history ? { history: readHistory(history) } : {}));
        const changed = () => this.#changed(watch);
        for (const type of ["change", "end", "error"]) watch.addEventListener(type, changed);
        this.#timer = setInterval(() => this.#draw(), TICK_MS);
        this.#changed(watch);
      } catch (error) {
        this.#show("refused", null, String((error as Error).message));
      }
    });
  }

  #leave(): void {
    clearInterval(this.#timer);
    this.#watch?.close();
    this.#watch = undefined;
    this.#remaining = createRemaining();
    this.#away = 0;
    this.#cancel = this.#refusal = "";
  }

  #clientNow(): TidegateClient {
    const given = this.#client ?? TidegateProgress.client;
    if (given) return given;
    const url = this.getAttribute("url") ?? location.origin;
    let client = clients.get(url);
    if (!client) clients.set(url, (client = new TidegateClient({ url })));
    return client;
  }

  #changed(watch: Watch): void {
    if (watch !== this.#watch) return;
    if (this.#cancel === "accepted") this.#cancel = "";
    const { progress, connection, finished } = watch.state;
    this.#remaining.sample(finished ? null : progress, Date.now());
    if (connection === "live" || connection === "ended") this.#away = 0;
    else this.#away ||= Date.now();
    if (/^(?:ended|failed|closed)$/.test(connection)) clearInterval(this.#timer);
    this.#draw();
  }

  async #stop(): Promise<void> {
    const watch = this.#watch;
    if (!watch || this.#isCancelling()) return;
    this.#cancel = "asked";
    this.#refusal = "";
    this.#draw();
    let refusal = "";
    try {
      const { cancel } = await import("./cancel.js");
      await cancel(this.#clientNow(), watch.operation);
    } catch (error) {
      refusal = (error as Error).message;
    }
    if (watch !== this.#watch) return; // another operation is shown by now
    this.#cancel = refusal ? "" : "accepted";
    this.#refusal = refusal;
    this.#draw();
  }

  #isCancelling(): boolean {
    return !!this.#cancel || this.state?.status === "cancelling";
  }

  // -- showing ------------------------------------------------------------------------------------

  #build(): void {
    if (this.#parts) return;
    const root = this.attachShadow({ mode: "open" });
    sheet ??= new CSSStyleSheet();
    if (!sheet.cssRules.length) sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    const make = (className: string, ...children: HTMLElement[]) => {
      const made = document.createElement(className === "stop" ? "button" : "div");
      made.className = className;
      made.setAttribute("part", className.split(" ")[0]!);
      made.append(...children);
      return made;
    };
    const parts = Object.fromEntries(PARTS.map((name) => [name, make(name)])) as unknown as Record<Part, HTMLElement>;
    parts.track.append(parts.fill);
    parts.said.removeAttribute("part");
    parts.said.setAttribute("role", "status");
    parts.title.id = "title";
    parts.stop.setAttribute("type", "button");
    parts.stop.addEventListener("click", () => void this.#stop());
    for (const [name, value] of [["role", "progressbar"], ["aria-valuemin", "0"], ["aria-valuemax", "100"]] as const)
      parts.track.setAttribute(name, value);
    const head = make("head row", parts.title, parts.status, parts.stop);
    const foot = make("foot row", parts.message, parts.time);
    const box = make("box", head, parts.track, foot, parts.note, parts.said);
    root.append(box);
    this.#parts = { ...parts, box, foot };
    try {
      this.#internals = this.attachInternals();
    } catch {
      // `:state()` is for style only
    }
  }

  #draw(): void {
    const state = this.#watch?.state;
    if (!state) return this.#show("waiting", null, "");
    const { status, message, error, failure } = state;
    const isFinal = status === "completed" || status === "failed" || status === "cancelled";
    const kind = failure ? "refused" : isFinal ? status : status === "unknown" ? "waiting" : "running";
    this.#show(kind, state, failure?.message ?? (status === "failed" ? error || message : message));
  }

  #show(kind: string, state: WatchState | null, message: string): void {
    const parts = this.#parts;
    if (!parts) return;
    const { texts } = TidegateProgress;
    const lang = this.closest("[lang]")?.getAttribute("lang") || undefined;
    const progress = state?.progress ?? null;
    const over = kind in TONES && kind !== "waiting";
    const busy = kind === "running" && progress === null;
    const offline = !over && this.#away > 0 && Date.now() - this.#away > OFFLINE_MS;
    const stale = !over && !!state?.stale;
    const percent = progress === null ? "" : percentOf(progress, lang);
    const stoppable = kind === "running" && this.hasAttribute("cancellable");
    const cancelling = kind === "running" && this.#isCancelling();
    const own = cancelling ? texts.cancelling : state && kind === "running" && state.status !== "running" ? state.status : "";
    const word = own || texts[kind as keyof typeof TEXTS];
    const label = this.getAttribute("label") || state?.title || this.operation;

    put(parts.title, label);
    // What the button says need not be said twice.
    const shown = kind === "running" && percent ? (own && !(cancelling && stoppable) ? `${own} ${percent}` : percent) : word;
    put(parts.status, shown);
    put(parts.message, message);
    put(parts.time, kind === "running" && !stale && !offline ? this.#left(lang) : "");
    parts.foot.classList.toggle("some", !!(parts.message.textContent || parts.time.textContent));
    const refusal = this.#refusal && !over ? texts.notStopped.replace("{reason}", () => this.#refusal) : "";
    put(parts.note, refusal || (offline ? texts.offline : stale ? texts.stale : state?.partial && !over ? texts.gap : ""));
    const act = cancelling ? texts.cancelling : texts.stop;
    put(parts.stop, act);
    parts.stop.hidden = !stoppable;
    // Not `disabled`, which would take the focus away.
    parts.stop.setAttribute("aria-disabled", String(cancelling));
    parts.stop.setAttribute("aria-label", `${act} ${label}`);
    parts.fill.style.inlineSize = busy ? "" : `${kind === "refused" ? 0 : (progress ?? (over ? 1 : 0)) * 100}%`;

    const { track, box } = parts;
    track.setAttribute("aria-label", label || texts.progress);
    if (progress === null) track.removeAttribute("aria-valuenow");
    else track.setAttribute("aria-valuenow", String(Math.round(progress * 100)));
    const note = parts.note.textContent ?? "";
    track.setAttribute("aria-valuetext", [shown, message, note].filter(Boolean).join(", "));
    track.setAttribute("aria-busy", String(busy));
    toggle(box, "tone", TONES[kind]);
    toggle(box, "busy", busy || undefined);
    toggle(box, "stale", stale || offline || undefined);
    this.#tell(kind, progress, [label, shown, over ? message : "", note]);
    const now = { [kind]: true, indeterminate: busy, stale, offline, gap: !!state?.partial };
    for (const name of ["waiting", "running", "completed", "failed", "cancelled", "refused", "indeterminate", "stale", "offline", "gap"]) {
      try {
        this.#internals?.states[now[name as "gap"] ? "add" : "delete"](name);
      } catch {
        return; // an older browser wants dashes
      }
    }
  }

  /** Screen readers hear of another state, and of progress now and then. */
  #tell(kind: string, progress: number | null, words: string[]): void {
    const step = progress === null ? "" : Math.floor((progress * 100) / SAID_PERCENT);
    const key = [kind, step, words.at(-1)].join();
    if (key === this.#said) return;
    const first = !this.#said;
    this.#said = key;
    if (!first && !this.hasAttribute("quiet")) put(this.#parts!.said, words.filter(Boolean).join(", "));
  }

  #left(lang: string | undefined): string {
    const ms = this.#remaining.left(Date.now());
    return ms === null ? "" : TidegateProgress.texts.left.replace("{time}", durationOf(ms, lang));
  }
}

const readHistory = (text: string): number | "all" | "none" => (text === "all" || text === "none" ? text : Number(text));

function put(part: HTMLElement, text: string): void {
  if (part.textContent !== text) part.textContent = text;
}

function toggle(box: HTMLElement, name: string, value: string | boolean | undefined): void {
  if (value === undefined) delete box.dataset[name];
  else box.dataset[name] = String(value);
}

/** Never 100 % before the end. */
function percentOf(progress: number, lang: string | undefined): string {
  const shown = progress >= 1 ? 1 : Math.min(0.99, Math.round(progress * 100) / 100);
  return new Intl.NumberFormat(lang, { style: "percent" }).format(shown);
}

function durationOf(ms: number, lang: string | undefined): string {
  const [value, unit] =
    ms < 55_000
      ? [Math.max(1, Math.ceil(ms / 5_000) * 5), "second"]
      : ms < 3_300_000
        ? [Math.round(ms / 60_000), "minute"]
        : [Math.round(ms / 3_600_000), "hour"];
  return new Intl.NumberFormat(lang, { style: "unit", unit: unit as string, unitDisplay: "short" }).format(value as number);
}

if (globalThis.customElements && !customElements.get("tidegate-progress"))
  customElements.define("tidegate-progress", TidegateProgress);

declare global {
  interface HTMLElementTagNameMap {
    "tidegate-progress": TidegateProgress;
  }
}
