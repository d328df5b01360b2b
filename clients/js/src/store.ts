/**
 * Some operations as frameworks want them: something to subscribe to, and a snapshot that is another
 * object when something has changed. Watches live from the first subscription to the last.
 */

import { InvalidRequest, type TidegateClient, type Watch, type WatchOptions, type WatchState } from "./index.js";
import { NO_FRAMES } from "./state.js";

export type States = ReadonlyMap<string, WatchState>;

export interface Store {
  subscribe(changed: () => void): () => void;
  snapshot(): States;
}

/** What is known of an operation that nobody has watched yet. */
export const NOTHING_YET: WatchState = Object.freeze({ ...NO_FRAMES, connection: "connecting", failure: null });

/** What is shown of an id that cannot be one. */
const failed = (failure: InvalidRequest): WatchState => ({ ...NOTHING_YET, connection: "failed", failure });

export function createStore(client: TidegateClient, ids: readonly string[], options: WatchOptions): Store {
  const watches = new Map<string, Watch>();
  const refused = new Map<string, WatchState>();
  const listeners = new Set<() => void>();
  let states: States | null = null;

  const changed = () => {
    states = null;
    for (const listener of [...listeners]) listener();
  };
  const begin = () => {
    for (const id of new Set(ids)) {
      try {
        const watch = client.watch(id, options);
        for (const type of ["change", "end", "error"]) watch.addEventListener(type, changed);
        watches.set(id, watch);
      } catch (error) {
        if (!(error instanceof InvalidRequest)) throw error;
        refused.set(id, failed(error));
      }
    }
    states = null;
  };
  const end = () => {
    states = store.snapshot();
    for (const watch of watches.values()) {
      for (const type of ["change", "end", "error"]) watch.removeEventListener(type, changed);
      watch.close();
    }
    watches.clear();
  };
  const store: Store = {
    subscribe(listener) {
      if (!listeners.size) begin();
      listeners.add(listener);
      return () => {
        if (listeners.delete(listener) && !listeners.size) end();
      };
    },
    snapshot: () =>
      (states ??= new Map(ids.map((id) => [id, refused.get(id) ?? watches.get(id)?.state ?? NOTHING_YET]))),
  };
  return store;
}
