// Made by `python -m tests.clients.close_codes`; do not edit.

/** What to do after a close: give up, come back, or come back after a delay. */
export type ComeBack = "no" | "yes" | "later";

/** By code. One that is not here means a fault on the way. */
export const CLOSE_CODES: Readonly<Record<number, ComeBack>> = {
  /** finished: the operation has finished */
  1000: "no",
  /** abnormal: the connection broke (never sent) */
  1006: "yes",
  /** invalid_data: a text frame was not UTF-8 */
  1007: "no",
  /** too_big: a message was over the size limit */
  1009: "no",
  /** keepalive: ping timeout, or an internal error */
  1011: "yes",
  /** draining: this replica is shutting down */
  1012: "yes",
  /** overloaded: temporarily unavailable */
  1013: "later",
  /** bad_request: the request cannot be understood */
  4400: "no",
  /** unauthenticated: token missing or invalid */
  4401: "no",
  /** forbidden: watching this operation is not allowed */
  4403: "no",
  /** not_found: there is no such operation */
  4404: "no",
  /** slow: the viewer did not read fast enough */
  4408: "later",
  /** replaced: replaced by a newer connection */
  4409: "no",
  /** expired: the operation's stream no longer exists */
  4410: "no",
  /** connection_limit: too many connections */
  4429: "later",
};
