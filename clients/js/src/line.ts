/**
 * The way of some operations to the gateway, over as many connections as it takes: which transport,
 * which replica, when again.
 *
 *     idle --an operation--> connecting --opened--> linked --lost--> waiting --> connecting
 *
 * WebSocket first, and HTTP where sockets bring nothing. Operations resume with their cursors, so a
 * change of the way is no different from a reconnect.
 */

import { createCourse, type Decision } from "./course.js";
import { GatewayUnreachable, refusal, TidegateError } from "./errors.js";
import type { Connection, Operation } from "./operation.js";
import { type ClientOptions, LINGER_MS, MAX_WATCHES, REFRESH_MIN_MS, SILENT_SOCKETS, type Transport } from "./options.js";
import { ABNORMAL, type Link, type LinkHost, openSocket } from "./socket.js";
import { isEntry } from "./state.js";
import { readToken } from "./token.js";
import { number, object } from "./values.js";

const OVERLOADED = 1013;

/** What a line belongs to. */
export interface LineOwner {
  readonly options: ClientOptions;
  readonly bases: readonly URL[];
  readonly ways: readonly Transport[];
  /** The line has no room for it. */
  place(operation: Operation): void;
  log(...words: unknown[]): void;
}

export interface Line extends LinkHost {
  hasRoom(): boolean;
  carry(operation: Operation): void;
  remove(operation: Operation): void;
  /** Look at the connection now: the network or the page is back. */
  wake(): void;
  /** The page is put away. */
  sleep(): void;
  /** Carry out what is to be done about one operation. */
  decided(operation: Operation, decision: Decision, reason: string): void;
  /** A socket comes through where this link was. */
  takeOver(from: Link, socket: Link): void;
}

export function createLine(owner: LineOwner): Line {
  const { options, bases, ways } = owner;
  const operations = new Map<unknown, Operation>();
  const isRenewable = typeof options.token === "function";
  const course = createCourse(isRenewable);
  let capacity = MAX_WATCHES;
  let link: Link | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let renewal: ReturnType<typeof setTimeout> | undefined;
  let silentSockets = 0;
  let at = 0;
  /** Counts connections, so that what belongs to an earlier one is known. */
  let turn = 0;
  let connecting = false;
  let isAsked = false;
  /** When the time without an answer began; 0 while there are answers. */
  let unanswered = 0;

  /** A copy, as whoever is told may watch again. */
  const all = (connection: Connection, failure?: TidegateError) =>
    [...operations.values()].forEach((operation) => operation.become(connection, failure));

  const connect = async () => {
    drop();
    connecting = true;
    const mine = turn;
    all("connecting");
    let token: string | undefined;
    let hasRead = false;
    try {
      token = await readToken(options.token);
      hasRead = true;
      if (mine !== turn) return;
      const base = bases[at]!;
      owner.log("connecting", base.href, silentSockets);
      const tryHttp = ways[0] !== "websocket" || (silentSockets >= SILENT_SOCKETS && ways[1]);
      const opened = tryHttp
        ? (await import("./http.js")).openHttp(owner, base, line)
        : openSocket(options.WebSocket ?? WebSocket, base, token, line);
      if (mine !== turn) return opened.close();
      link = opened;
      connecting = false;
      if (!link.look) line.opened(link);
    } catch (error) {
      if (mine !== turn) return;
      if (hasRead) fail(refusal(token ? 4401 : 4400, {}, String(error)));
      else if (error instanceof TidegateError && !error.retry) fail(error);
      else after(course.failed(0), String(error));
    }
  };

  const renew = async () => {
    const of = link;
    renewal = undefined;
    try {
      const token = await readToken(options.token);
      if (token) of?.refresh?.(token); // one that is closed says nothing
    } catch (error) {
      owner.log("error", error); // the old one may do for a while
    }
  };

  /** Nothing of the present connection is heard any more. */
  const drop = () => {
    turn += 1;
    connecting = isAsked = false;
    link?.close();
    link = undefined;
    clearTimeout(renewal);
    clearTimeout(timer);
    renewal = timer = undefined;
  };

  const fail = (error: TidegateError) => {
    drop();
    all("failed", error);
  };

  const after = (decision: Decision, reason: string) => {
    // Not `finish`, which a line as a whole never does.
    if (decision.do !== "return") return fail(refusal(decision.close!, course, reason));
    const { ms } = decision;
    unanswered ||= Date.now();
    if (Date.now() - unanswered + ms > (options.patienceMs ?? Infinity))
      return fail(new GatewayUnreachable(`no answer: ${reason}`, "unreachable", true));
    if (ms) at = (at + 1) % bases.length;
    isAsked = !!decision.asked;
    connecting = false;
    owner.log("again", ms, reason);
    all("waiting");
    timer = setTimeout(connect, ms);
  };

  const line: Line = {
    hasRoom: () => operations.size < capacity,

    carry(operation) {
      operation.line = line;
      operations.set(operation.id, operation);
      if (link) link.ask(operation);
      else if (!timer && !connecting) {
        unanswered = Date.now();
        void connect();
      }
    },

    remove(operation) {
      if (!operations.delete(operation.id)) return;
      // What a gateway has ended it watches no longer.
      if (!link?.look || operation.state.connection === "closed") link?.unwatch(operation);
      setTimeout(() => operations.size || drop(), LINGER_MS);
    },

    wake() {
      if (link) link.look?.();
      else if (operations.size && !connecting && !isAsked) void connect();
    },

    sleep() {
      drop();
      all("waiting");
    },

    opened(of) {
      operations.forEach((operation) => of.ask(operation));
    },

    received(of, frame, operation = operations.get(frame.operation)) {
      if (of !== link) return;
      unanswered = 0;
      const data = object(frame.data);
      const type = isEntry(frame) ? null : frame.type;
      if (type === "expiring") {
        // A gateway closes what asks too often.
        if (isRenewable) renewal ??= setTimeout(renew, Math.max(REFRESH_MIN_MS, (number(data.in_s) ?? 0) * 500));
      } else if (type === "unwatched") {
        if (operation && data.name !== "unwatch")
          line.decided(operation, operation.course.closed(Number(data.code), operation.folded.ended), String(data.name));
      } else if (type === "error") {
        owner.log(type, frame);
        (operation?.course ?? course).heard(frame);
        // Answers to a message of ours; no `unwatched` follows.
        if (operation && data.code === "too_many_watches") {
          operations.delete(operation.id);
          capacity = operations.size || 1;
          owner.place(operation);
        } else if (operation && data.code === "bad_request") line.decided(operation, operation.course.closed(4400), "");
      } else {
        course.heard(frame);
        operation?.take(frame);
      }
    },

    lost(of, code, reason, silent) {
      if (of !== link) return;
      drop();
      operations.forEach((operation) => operation.folded.ended && operation.become("ended"));
      // Where HTTP fails as well it is not the proxy: sockets first, and HTTP behind one failure.
      silentSockets = !of.look ? SILENT_SOCKETS - 1 : silent ? silentSockets + 1 : 0;
      // A whole socket never ends with an operation; a gateway that takes less than the default has
      // said by now for how many operations there is room.
      if (course.errorCode === "too_many_messages") code = OVERLOADED;
      if (operations.size) after(course.closed(code === 1000 ? ABNORMAL : code), reason || String(code));
    },

    decided(operation, decision, reason) {
      const { course } = operation;
      owner.log(operation.id, decision);
      if (decision.do === "finish") operation.become("ended");
      else if (decision.do === "refuse")
        operation.become("failed", refusal(decision.close, course, reason));
      else {
        operation.become("waiting");
        const by = link;
        operation.again = setTimeout(() => by === link && operation.line === line && by?.ask(operation), decision.ms);
      }
    },

    takeOver(from, socket) {
      if (from !== link) return socket.close();
      drop();
      silentSockets = 0;
      link = socket;
      line.opened(socket);
    },
  };
  return line;
}
