/** The token: where it comes from. Never in an address or a log. */

import { TOKEN_TIMEOUT_MS, type TokenSource } from "./options.js";

/** A token, within a time. */
export async function readToken(source: TokenSource | undefined): Promise<string | undefined> {
  if (typeof source !== "function") return source;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(reject, TOKEN_TIMEOUT_MS, new Error("no token in time"));
  });
  try {
    return await Promise.race([source(), late]);
  } finally {
    clearTimeout(timer);
  }
}
