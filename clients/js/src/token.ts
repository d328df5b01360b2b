/** The token: where it comes from, and when the next one is due. Never in an address or a log. */

import { REFRESH_AHEAD_MS, TOKEN_TIMEOUT_MS, type TokenSource } from "./options.js";
import { object, parse } from "./values.js";

/** A token, within a time. */
export async function readToken(source: TokenSource | undefined): Promise<string | undefined> {
  if (typeof source !== "function") return source;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("no token in time")), TOKEN_TIMEOUT_MS);
  });
  try {
    return await Promise.race([source(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** In how many ms it should be renewed; null where it does not say when it ends. */
export function renewalDelay(token: string, now: number): number | null {
  try {
    const claims = object(parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"))));
    if (typeof claims.exp !== "number") return null;
    const left = claims.exp * 1000 - now;
    // Of a token that lives for less than two minutes, half.
    return Math.min(Math.max(left / 2, left - REFRESH_AHEAD_MS), 2 ** 31 - 1);
  } catch {
    return null;
  }
}
