/**
 * `@tidegate/client/react`: operations as state of a component. A watch lives as long as a component
 * that shows it; StrictMode, fast refresh and changing ids leave none behind.
 */

import { createContext, createElement, type ReactElement, type ReactNode, useContext, useMemo, useSyncExternalStore } from "react";

import { TidegateClient, type WatchOptions, type WatchState } from "./index.js";
import { createStore, NOTHING_YET, type States } from "./store.js";

const Client = createContext<TidegateClient | null>(null);
let ofThePage: TidegateClient | undefined;

/** Names the client for what is inside. Without one the gateway is the page's own host. */
export function TidegateProvider(props: { client: TidegateClient; children?: ReactNode }): ReactElement {
  return createElement(Client.Provider, { value: props.client }, props.children);
}

export function useTidegate(): TidegateClient {
  return useContext(Client) ?? (ofThePage ??= new TidegateClient());
}

/** Without an id nothing is watched. */
export function useOperation(id: string | null | undefined, options?: Omit<WatchOptions, "signal">): WatchState {
  const ids = useMemo(() => (id ? [id] : []), [id]);
  return useOperations(ids, options).get(id ?? "") ?? NOTHING_YET;
}

/** By id. The list may be another array in each render; what counts is what is in it. */
export function useOperations(ids: readonly string[], options?: Omit<WatchOptions, "signal">): States {
  const context = useContext(Client);
  const key = ids.join("\n");
  const { history, lastEventId } = options ?? {};
  const store = useMemo(() => {
    const asked: WatchOptions = {
      ...(history === undefined ? {} : { history }),
      ...(lastEventId === undefined ? {} : { lastEventId }),
    };
    // A server has no client of the page, and renders what is known before anything is.
    return createStoreOf(() => context ?? (ofThePage ??= new TidegateClient()), key ? key.split("\n") : [], asked);
  }, [context, key, history, lastEventId]);
  return useSyncExternalStore(store.subscribe, store.snapshot, store.serverSnapshot);
}

function createStoreOf(client: () => TidegateClient, ids: readonly string[], options: WatchOptions) {
  const nothing: States = new Map(ids.map((id) => [id, NOTHING_YET]));
  let store: ReturnType<typeof createStore> | undefined;
  return {
    subscribe: (changed: () => void) => (store ??= createStore(client(), ids, options)).subscribe(changed),
    snapshot: () => store?.snapshot() ?? nothing,
    serverSnapshot: () => nothing,
  };
}
