/**
 * What a watch can end with, other than its operation's end: one class for each that a page may
 * want to tell apart. `retry` says whether the same may succeed later, `code` is the gateway's name.
 */

import { CLOSE_CODES } from "./close-codes.js";

export class TidegateError extends Error {
  /** The gateway's name for it, as in its `error` frames. */
  declare readonly code: string;
  /** Whether the same request may succeed later. */
  declare readonly retry: boolean;
  /** The close code, or 4000 and the HTTP status; 0 where there was none. */
  declare readonly close: number;

  constructor(message: string, code: string, retry = false, close = 0) {
    super(message);
    Object.assign(this, { code, retry, close });
  }
}

/** An id, an address or an option that cannot be. */
export class InvalidRequest extends TidegateError {}
/** The token is missing, bad or has ended. */
export class SignInRequired extends TidegateError {}
/** This user may not watch this operation. */
export class WatchForbidden extends TidegateError {}
/** There is no such operation. */
export class OperationNotFound extends TidegateError {}
/** The operation's stream is gone. */
export class OperationExpired extends TidegateError {}
/** A newer connection of this user took the place of this one. */
export class Replaced extends TidegateError {}
/** The user has as many connections as are allowed. */
export class TooManyConnections extends TidegateError {}
/** No gateway answered for as long as `patienceMs` says. */
export class GatewayUnreachable extends TidegateError {}

// A minifier renames classes; what is logged has their names.
const NAMED: Readonly<Record<string, typeof TidegateError>> = {
  TidegateError,
  GatewayUnreachable,
  InvalidRequest,
  SignInRequired,
  WatchForbidden,
  OperationNotFound,
  Replaced,
  OperationExpired,
  TooManyConnections,
};
for (const name in NAMED) NAMED[name]!.prototype.name = name;

const CLASSES: Readonly<Record<number, typeof TidegateError>> = {
  4400: InvalidRequest,
  4401: SignInRequired,
  4403: WatchForbidden,
  4404: OperationNotFound,
  4409: Replaced,
  4410: OperationExpired,
  4429: TooManyConnections,
};

/** Throws where something that was given cannot be. */
export function check(isPossible: unknown, message: string, code = "bad_request"): void {
  if (!isPossible) throw new InvalidRequest(message, code);
}

/** What the `error` frame before a refusal has said. */
interface Said {
  readonly errorCode?: string;
  readonly errorText?: string;
}

/** The error of a refusal. */
export function refusal(close: number, { errorCode, errorText }: Said, reason: string): TidegateError {
  const retry = (CLOSE_CODES[close] ?? "no") !== "no";
  return new (CLASSES[close] ?? TidegateError)(errorText || reason || `refused (${close})`, errorCode || "refused", retry, close);
}
