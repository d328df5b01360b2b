/**
 * `@tidegate/client/cancel`: ask the worker of an operation to stop. What becomes of it is seen by
 * watching: the status is `cancelling`, and then how the operation ended.
 */

import {
  GatewayUnreachable,
  InvalidRequest,
  OperationNotFound,
  SignInRequired,
  type TidegateClient,
  TidegateError,
} from "./index.js";
import { readToken } from "./token.js";
import { object, parse } from "./values.js";

/** A gateway that has not answered for so long is given up. */
const TIMEOUT_MS = 10_000;
/** For each status a class; `code` tells the rest, such as `already_ended` and `cancel_forbidden`. */
const CLASSES: Readonly<Record<number, typeof TidegateError>> = {
  400: InvalidRequest,
  401: SignInRequired,
  404: OperationNotFound,
};

export interface CancelRequested {
  /** The entry that asks for it. */
  readonly id: string;
  /** Somebody had asked before. */
  readonly repeated: boolean;
}

/**
 * Ask for it, at the first gateway of the client that answers. To ask twice is the same as once.
 * Rejects with a `TidegateError`.
 */
export async function cancel(
  { options }: TidegateClient,
  operation: string,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<CancelRequested> {
  const { url = globalThis.location?.origin, token, fetch: doFetch = fetch, credentials = "same-origin" } = options;
  const secret = await readToken(token);
  const headers: Record<string, string> = secret ? { Authorization: `Bearer ${secret}` } : {};
  let failure = new GatewayUnreachable("no gateway answers", "unreachable", true);
  for (const base of typeof url === "string" ? [url] : (url ?? [])) {
    const address = new URL(base.replace(/^ws/, "http"), globalThis.location?.href);
    address.search = address.hash = "";
    address.pathname = `${address.pathname.replace(/\/*$/, "")}/operations/${encodeURIComponent(operation)}/cancel`;
    signal?.throwIfAborted();
    const late = AbortSignal.timeout(TIMEOUT_MS);
    let answer: Response, body: Record<string, unknown>;
    try {
      answer = await doFetch(address, {
        method: "POST",
        headers,
        credentials,
        cache: "no-store",
        signal: signal ? AbortSignal.any([signal, late]) : late,
      });
      body = object(parse(await answer.text()));
    } catch (error) {
      signal?.throwIfAborted();
      failure = new GatewayUnreachable(String(error), "unreachable", true);
      continue;
    }
    if (answer.ok) return { id: String(body.id), repeated: body.repeated === true };
    const { status } = answer;
    const message = typeof body.detail === "string" ? body.detail : `the gateway answered ${status}`;
    const code = typeof body.code === "string" ? body.code : "refused";
    failure = new (CLASSES[status] ?? TidegateError)(message, code, body.retry === true, 4000 + status);
    if (status < 500) break;
  }
  throw failure;
}
