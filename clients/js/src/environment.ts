/**
 * What a page's environment tells of the connection: the network is back, the page is shown again,
 * it goes into the back-forward cache or comes out of it. Without a page (Node, workers) some or all
 * of it is silent, which costs nothing but time.
 */

export interface Signals {
  /** Look at the connection now. */
  wake(): void;
  /** The page is put away, perhaps for good: a socket would keep it out of the cache. */
  sleep(): void;
}

/** Returns what ends it. A frozen page that goes on is one that is shown again. */
export function listen({ wake, sleep }: Signals): () => void {
  const scope = globalThis as Partial<EventTarget> & { document?: Document };
  const ended = new AbortController();
  const on = (target: Partial<EventTarget> | undefined, type: string, act: (event: Event) => void) =>
    target?.addEventListener?.(type, act, ended);
  const { document } = scope;
  on(scope, "online", wake);
  on(scope, "pageshow", wake);
  on(scope, "pagehide", sleep);
  on(document, "visibilitychange", () => document!.hidden || wake());
  return () => ended.abort();
}
