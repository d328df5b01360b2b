/**
 * `@tidegate/client/vue`: operations as refs. A watch lives as long as the scope that asked for it.
 */

import { type App, inject, type InjectionKey, type MaybeRefOrGetter, onScopeDispose, type ShallowRef, shallowReadonly, shallowRef, toValue, watch } from "vue";

import { TidegateClient, type WatchOptions, type WatchState } from "./index.js";
import { createStore, NOTHING_YET, type States } from "./store.js";

const KEY: InjectionKey<TidegateClient> = Symbol("tidegate");
let ofThePage: TidegateClient | undefined;

/** `app.use(tidegate, client)` names the client. Without it the gateway is the page's own host. */
export const tidegate = {
  install(app: App, client: TidegateClient): void {
    app.provide(KEY, client);
  },
};

export function useTidegate(): TidegateClient {
  return inject(KEY, () => (ofThePage ??= new TidegateClient()), true);
}

/** Without an id nothing is watched. */
export function useOperation(
  id: MaybeRefOrGetter<string | null | undefined>,
  options: Omit<WatchOptions, "signal"> = {},
): Readonly<ShallowRef<WatchState>> {
  const states = useOperations(() => [toValue(id)].filter((one): one is string => !!one), options);
  const state = shallowRef<WatchState>(NOTHING_YET);
  watch(states, (now) => (state.value = [...now.values()][0] ?? NOTHING_YET), { immediate: true, flush: "sync" });
  return shallowReadonly(state);
}

/** By id; `ids` may be a ref or a getter. */
export function useOperations(
  ids: MaybeRefOrGetter<readonly string[]>,
  options: Omit<WatchOptions, "signal"> = {},
): Readonly<ShallowRef<States>> {
  const client = useTidegate();
  const states = shallowRef<States>(new Map());
  let leave: (() => void) | undefined;
  watch(
    () => toValue(ids).join("\n"),
    (key) => {
      const store = createStore(client, key ? key.split("\n") : [], options);
      const before = leave;
      leave = store.subscribe(() => (states.value = store.snapshot()));
      before?.();
      states.value = store.snapshot();
    },
    { immediate: true },
  );
  onScopeDispose(() => leave?.());
  return shallowReadonly(states);
}
