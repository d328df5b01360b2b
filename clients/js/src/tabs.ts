/**
 * Many tabs, one connection: a `WebSocket` for the client's option of that name, whose sockets of all
 * tabs go over those of one of them, the leader.
 *
 *     tab: SharedSocket --BroadcastChannel--> leader: Hub --Trunk--> gateway
 *
 * The leader is who holds a Web Lock. When its tab is closed the next one in the queue has it, and
 * tells all tabs that their sockets are lost: each client reconnects and resumes with its own
 * cursors, as after any lost connection, so nothing here has to be remembered over a change. A leader
 * that does not answer (a frozen tab) loses the lock to who asked.
 *
 * An operation is watched once on a trunk. Who joins it later gets what the trunk has received since
 * it began, if that is surely what the gateway would send, and else a watch on another trunk.
 *
 * Tabs with the same `key` share: one key for each user.
 */

type Json = Readonly<Record<string, unknown>>;
type Timer = ReturnType<typeof setTimeout>;

/** What tabs tell each other; `to` is a tab, or nobody's name for the leader. */
type Note = Readonly<{
  is: "open" | "send" | "close" | "taken" | "opened" | "text" | "closed" | "leader";
  from: string;
  to?: string;
  socket?: number;
  url?: string;
  protocols?: string | string[];
  text?: string;
  code?: number;
  reason?: string;
}>;

/** A leader that has not said by then that it has heard is replaced. */
const TAKEN_MS = 2_000;
/** What is kept of an operation for who joins later. */
const KEPT_FRAMES = 1_000;
const KEPT_CHARS = 1_000_000;
/** Each tab renews the token; one is enough for the socket. */
const REFRESH_EVERY_MS = 5_000;
const ABNORMAL = 1006;
const UNWATCH = { code: 1000, name: "unwatch" };

/** `WebSocket` where tabs can share; the browser's own where they cannot. */
export function sharedWebSocket(key = "page"): typeof WebSocket {
  const { BroadcastChannel: Channel, navigator } = globalThis as Partial<typeof globalThis>;
  if (!Channel || !navigator?.locks) return WebSocket;
  const tab = createTab(key, new Channel(`tidegate:${key}`), navigator.locks, WebSocket);
  return tab as unknown as typeof WebSocket;
}

/** @internal The class of sockets of one tab. */
export function createTab(
  key: string,
  channel: Pick<BroadcastChannel, "postMessage" | "addEventListener">,
  locks: Pick<LockManager, "request">,
  Real: typeof WebSocket,
): new (url: string | URL, protocols?: string | string[]) => unknown {
  const me = crypto.randomUUID();
  const sockets = new Map<number, SharedSocket>();
  let count = 0;
  let hub: Hub | null = null;

  const post = (note: Omit<Note, "from">) => {
    const whole: Note = { ...note, from: me };
    // A channel does not speak to itself; a turn later, as with any other.
    if (note.to === me || (!note.to && hub)) queueMicrotask(() => heard(whole));
    else channel.postMessage(whole);
  };

  const heard = (note: Note) => {
    if (!note.to && note.is !== "leader") {
      hub?.heard(note);
      return;
    }
    if (note.is === "leader") {
      for (const socket of [...sockets.values()]) socket.led();
    } else if (note.to === me) sockets.get(note.socket!)?.heard(note);
  };
  channel.addEventListener("message", ({ data }: MessageEvent) => heard(data as Note));

  const lead = () => {
    hub = createHub(me, post, locks, key, Real);
    for (const socket of [...sockets.values()]) socket.led();
    channel.postMessage({ is: "leader", from: me } satisfies Note);
    return new Promise<never>(() => {});
  };
  const stand = (steal = false) => {
    locks.request(`tidegate:${key}:leader`, steal ? { steal } : {}, lead).catch(() => {
      // Another tab has taken it: this one stood still.
      hub?.end();
      hub = null;
      stand();
    });
  };
  void locks.request(`tidegate:${key}:tab:${me}`, () => new Promise(() => {}));
  stand();

  return class SharedSocket {
    readyState = 0;
    onopen: (() => void) | null = null;
    onmessage: ((event: { data: unknown }) => void) | null = null;
    onclose: ((event: { code: number; reason: string }) => void) | null = null;
    readonly #number = ++count;
    readonly #url: string;
    readonly #protocols: string | string[];
    #silence: Timer | undefined;

    constructor(url: string | URL, protocols: string | string[] = []) {
      this.#url = String(url);
      this.#protocols = protocols;
      sockets.set(this.#number, this);
      this.#ask();
      this.#expect();
    }

    #expect(): void {
      const due = Date.now() + TAKEN_MS;
      this.#silence = setTimeout(() => {
        // A timer that comes late was not running, and neither was what would have heard the answer.
        if (Date.now() - due > TAKEN_MS / 2) this.#expect();
        else if (!hub) stand(true);
      }, TAKEN_MS);
    }

    #ask(): void {
      post({ is: "open", socket: this.#number, url: this.#url, protocols: this.#protocols });
    }

    /** There is another leader, who knows nothing of it. */
    led(): void {
      if (this.readyState) this.lost(ABNORMAL, "another tab leads");
      else this.#ask();
    }

    send(text: string): void {
      if (this.readyState === 1) post({ is: "send", socket: this.#number, text });
    }

    close(): void {
      if (this.readyState > 1) return;
      this.#forget();
      post({ is: "close", socket: this.#number });
    }

    heard({ is, text, code, reason }: Note): void {
      if (is === "taken") clearTimeout(this.#silence);
      else if (is === "opened" && !this.readyState) {
        this.readyState = 1;
        this.onopen?.();
      } else if (is === "text") this.onmessage?.({ data: text });
      else if (is === "closed") this.lost(code!, reason!);
    }

    lost(code: number, reason: string): void {
      this.#forget();
      this.onclose?.({ code, reason });
    }

    #forget(): void {
      clearTimeout(this.#silence);
      this.readyState = 3;
      sockets.delete(this.#number);
    }
  };

  interface SharedSocket {
    heard(note: Note): void;
    led(): void;
    lost(code: number, reason: string): void;
  }
}

interface Hub {
  heard(note: Note): void;
  end(): void;
}

/** A socket of a tab, as the leader has it. */
interface Guest {
  readonly tab: string;
  readonly socket: number;
  readonly protocols: string | string[];
  readonly home: Trunk;
  /** Where each operation is watched. */
  readonly watches: Map<string, Trunk>;
}

/** What a trunk watches. */
interface Shared {
  readonly guests: Set<Guest>;
  readonly asked: Json;
  /** What was received since it began; null when that is not all. */
  kept: { text: string; id: string | null }[] | null;
  chars: number;
}

interface Trunk {
  readonly url: string;
  readonly socket: WebSocket;
  readonly guests: Set<Guest>;
  readonly operations: Map<string, Shared>;
  /** Operations that were left: what comes of them up to `unwatched` is nobody's. */
  readonly left: Map<string, number>;
  /** What is to be said once it is open. */
  readonly waiting: Json[];
  isFull: boolean;
  refreshed: number;
}

function createHub(
  me: string,
  post: (note: Omit<Note, "from">) => void,
  locks: Pick<LockManager, "request">,
  key: string,
  Real: typeof WebSocket,
): Hub {
  const trunks = new Set<Trunk>();
  const guests = new Map<string, Guest>();
  const tabs = new Set<string>();

  const tell = ({ tab, socket }: Guest, text: string) => post({ is: "text", to: tab, socket, text });
  const send = (trunk: Trunk, message: Json) => {
    if (trunk.socket.readyState === 1) trunk.socket.send(JSON.stringify(message));
    else trunk.waiting.push(message);
  };

  const openTrunk = (url: string, protocols: string | string[]): Trunk => {
    const socket = new Real(url, protocols);
    const trunk: Trunk = {
      url,
      socket,
      guests: new Set(),
      operations: new Map(),
      left: new Map(),
      waiting: [],
      isFull: false,
      refreshed: 0,
    };
    trunks.add(trunk);
    socket.onopen = () => {
      for (const message of trunk.waiting.splice(0)) send(trunk, message);
      for (const { tab, socket, home } of trunk.guests) if (home === trunk) post({ is: "opened", to: tab, socket });
    };
    socket.onmessage = ({ data }) => received(trunk, String(data));
    socket.onclose = ({ code, reason }) => endTrunk(trunk, code, reason);
    return trunk;
  };

  /** Who has anything on it reconnects with all it has. */
  const endTrunk = (trunk: Trunk, code: number, reason: string) => {
    if (!trunks.delete(trunk)) return;
    trunk.socket.onopen = trunk.socket.onmessage = trunk.socket.onclose = null;
    trunk.socket.close();
    for (const guest of [...trunk.guests]) {
      post({ is: "closed", to: guest.tab, socket: guest.socket, code, reason });
      leave(guest);
    }
  };

  const received = (trunk: Trunk, text: string) => {
    const frame = parse(text);
    if (!frame) return;
    const { operation, type, id } = frame;
    const isEntry = id !== undefined || frame.timestamp !== undefined;
    if (typeof operation !== "string") {
      for (const guest of trunk.guests) tell(guest, text);
      return;
    }
    const left = trunk.left.get(operation) ?? 0;
    if (left) {
      if (isEntry || (type !== "unwatched" && codeOf(frame) !== "not_watched")) return;
      trunk.left.delete(operation);
      if (left > 1) trunk.left.set(operation, left - 1);
      return;
    }
    const shared = trunk.operations.get(operation);
    if (!shared) return;
    for (const guest of shared.guests) tell(guest, text);
    if (!isEntry && (type === "unwatched" || codeOf(frame) === "too_many_watches")) {
      trunk.isFull ||= type === "error";
      for (const guest of shared.guests) guest.watches.delete(operation);
      trunk.operations.delete(operation);
    } else if (!isEntry && type !== "current_state") shared.kept = null;
    else if (shared.kept) {
      shared.kept.push({ text, id: typeof id === "string" ? id : null });
      shared.chars += text.length;
      if (shared.kept.length > KEPT_FRAMES || shared.chars > KEPT_CHARS) shared.kept = null;
    }
  };

  const watch = (guest: Guest, message: Json, operation: string) => {
    if (guest.watches.has(operation)) return;
    const joined = guest.home.operations.get(operation);
    const kept = joined && keptFor(joined, message);
    let trunk = guest.home;
    if (joined ? !kept : trunk.isFull) {
      // It cannot be had from here: another trunk, which has room and does not watch it.
      const { url } = guest.home;
      trunk =
        [...trunks].find((one) => one.url === url && !one.isFull && !one.operations.has(operation)) ??
        openTrunk(url, guest.protocols);
      trunk.guests.add(guest);
    }
    guest.watches.set(operation, trunk);
    const there = trunk.operations.get(operation);
    if (there) {
      there.guests.add(guest);
      for (const { text } of kept!) tell(guest, text);
      return;
    }
    trunk.operations.set(operation, { guests: new Set([guest]), asked: message, kept: [], chars: 0 });
    send(trunk, message);
  };

  const unwatch = (guest: Guest, operation: string) => {
    const trunk = guest.watches.get(operation);
    const shared = trunk?.operations.get(operation);
    if (!trunk || !shared) return;
    guest.watches.delete(operation);
    shared.guests.delete(guest);
    if (shared.guests.size) return;
    trunk.operations.delete(operation);
    trunk.isFull = false;
    trunk.left.set(operation, (trunk.left.get(operation) ?? 0) + 1);
    send(trunk, { type: "unwatch", operation });
  };

  const leave = (guest: Guest) => {
    guests.delete(nameOf(guest.tab, guest.socket));
    for (const operation of [...guest.watches.keys()]) unwatch(guest, operation);
    for (const trunk of [...trunks]) {
      trunk.guests.delete(guest);
      if (!trunk.guests.size) endTrunk(trunk, 1000, "");
    }
  };

  const enter = ({ from, socket, url, protocols }: Note) => {
    post({ is: "taken", to: from, socket: socket! });
    if (guests.has(nameOf(from, socket!))) return;
    let home = [...trunks].find((one) => one.url === url && !one.isFull);
    try {
      home ??= openTrunk(url!, protocols!);
    } catch (error) {
      post({ is: "closed", to: from, socket: socket!, code: ABNORMAL, reason: String(error) });
      return;
    }
    const guest: Guest = { tab: from, socket: socket!, protocols: protocols!, home, watches: new Map() };
    home.guests.add(guest);
    guests.set(nameOf(from, socket!), guest);
    if (home.socket.readyState === 1) post({ is: "opened", to: from, socket: socket! });
    if (from === me || tabs.has(from)) return;
    tabs.add(from);
    // It is held for as long as that tab lives.
    void locks.request(`tidegate:${key}:tab:${from}`, () => {
      tabs.delete(from);
      for (const one of [...guests.values()]) if (one.tab === from) leave(one);
    });
  };

  return {
    heard(note) {
      const guest = guests.get(nameOf(note.from, note.socket!));
      if (note.is === "open") enter(note);
      else if (!guest) return;
      else if (note.is === "close") leave(guest);
      else if (note.is === "send") {
        const message = parse(note.text!);
        if (!message) return;
        const { type, operation } = message;
        if (type === "watch" && typeof operation === "string") watch(guest, message, operation);
        else if (type === "unwatch" && typeof operation === "string") {
          unwatch(guest, operation);
          tell(guest, JSON.stringify({ type: "unwatched", operation, data: UNWATCH }));
        } else if (type !== "refresh") send(guest.home, message);
        else if (Date.now() - guest.home.refreshed >= REFRESH_EVERY_MS) {
          for (const trunk of trunks) {
            trunk.refreshed = Date.now();
            send(trunk, message);
          }
        } else tell(guest, '{"type":"refreshed"}');
      }
    },
    end() {
      for (const trunk of [...trunks]) endTrunk(trunk, ABNORMAL, "another tab leads");
    },
  };
}

/** What the gateway would send to this `watch`, if it is surely what was kept; else nothing. */
function keptFor({ kept, asked }: Shared, { last_event_id: after, history }: Json): Shared["kept"] {
  const isSame = asked.last_event_id === after && asked.history === history;
  if (!kept || (!kept.length && !isSame)) return null;
  const state = kept[0] && parse(kept[0].text);
  if (!state || (isSame && after === undefined)) return kept;
  if (state.type !== "current_state" || after === undefined) return null;
  const cursor = positionOf(after);
  const begin = positionOf(asked.last_event_id ?? state.cursor);
  if (cursor === null || begin === null) return null;
  // The very entry has to be here: a cursor of another log may lie between ours.
  if (cursor !== begin && !kept.some(({ id }) => id !== null && positionOf(id) === cursor)) return null;
  return kept.filter(({ id }, at) => at === 0 || (id !== null && positionOf(id)! > cursor));
}

function positionOf(id: unknown): bigint | null {
  const match = typeof id === "string" ? /^(\d{1,20})(?:-(\d{1,20}))?$/.exec(id) : null;
  return match && ((BigInt(match[1]!) << 64n) | BigInt(match[2] ?? 0));
}

const nameOf = (tab: string, socket: number) => `${tab}/${socket}`;

const codeOf = ({ data }: Json): unknown => (data as Json | null | undefined)?.code;

function parse(text: string): Json | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : null;
  } catch {
    return null;
  }
}
