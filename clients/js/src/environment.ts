/**
 * What a page's environment tells of the connection: the network is back, the page is shown again,
 * it goes into the back-forward cache or comes out of it. Without a page (Node, workers) some or all
 * of it is silent, which costs nothing but time.
 */

export interface Signals {
  /** Look at the connection now. */
  wake(why: string): void;
  /** The page is put away, perhaps for good: a socket would keep it out of the cache. */
  sleep(): void;
}

/** Returns what ends it. */
export function listen(signals: Signals): () => void {
  const scope = globalThis as Partial<EventTarget> & { document?: Document };
  if (!scope.addEventListener) return () => {};
  const ended = new AbortController();
  const on = (target: Partial<EventTarget> | undefined, type: string, act: (event: Event) => void) =>
    target?.addEventListener?.(type, act, { signal: ended.signal });
  const { document } = scope;
  on(scope, "online", () => signals.wake("online"));
  on(scope, "pageshow", (event) => (event as PageTransitionEvent).persisted && signals.wake("pageshow"));
  on(scope, "pagehide", () => signals.sleep());
  on(document, "resume", () => signals.wake("resume"));
  on(document, "visibilitychange", () => document?.visibilityState === "visible" && signals.wake("visible"));
  return () => ended.abort();
}
