/** `@tidegate/client`: watch long-running operations live. docs/browser.md has examples. */

export { TidegateClient } from "./client.js";
export { CLOSE_CODES, type ComeBack } from "./close-codes.js";
export {
  GatewayUnreachable,
  InvalidRequest,
  OperationExpired,
  OperationNotFound,
  Replaced,
  SignInRequired,
  TidegateError,
  TooManyConnections,
  WatchForbidden,
} from "./errors.js";
export { type Connection, type WatchState } from "./operation.js";
export type { ClientOptions, TokenSource, Transport, WatchOptions } from "./options.js";
export type { Gap, OperationState } from "./state.js";
export { type Frame, type Watch, WatchEvent } from "./watch.js";
