/**
 * What a page's environment tells of the connection: the network is back, the page is shown again,
 * it goes into the back-forward cache or comes out of it. Without a page (Node, workers) some or all
 * of it is silent, which costs nothing but time.
 */

/**
 * `wake`: look at the connection now. `sleep`: the page is put away, perhaps for good, and a socket
 * would keep it out of the cache. Returns what ends it. A frozen page that goes on is one that is
 * shown again.
 */
export function listen(wake: () => void, sleep: () => void): () => void {
  const scope = globalThis as Partial<EventTarget> & { document?: Document };
  const ended = new AbortController();
  const on = (type: string, act: () => void) => scope.addEventListener?.(type, act, ended);
  on("online", wake);
  on("pageshow", wake);
  on("pagehide", sleep);
  // The document's, which bubbles.
  on("visibilitychange", () => scope.document!.hidden || wake());
  return () => ended.abort();
}
