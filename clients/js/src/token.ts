/** The token: where it comes from. Never in an address or a log. */

import { TOKEN_TIMEOUT_MS, type TokenSource } from "./options.js";

/** A token, within a time. */
export async function readToken(source: TokenSource | undefined): Promise<string | undefined> {
  if (typeof source !== "function") return source;
  const late = AbortSignal.timeout(TOKEN_TIMEOUT_MS);
  return Promise.race([source(), new Promise<never>((_, fail) => (late.onabort = () => fail(late.reason)))]);
}
