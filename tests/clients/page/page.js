// What a test asks of the page: watch operations, and tell what came.
import { TidegateClient } from "/package/dist/index.js";
import { sharedWebSocket } from "/package/dist/tabs.js";

const clients = [];
const watches = new Map();
/** Of each operation what the application was shown: [type, id, epoch, data, cursor]. */
const seen = {};
const sockets = [];
const requests = [];

// Looked at, not changed: how the client reached the gateway, with which protocols.
const Real = globalThis.WebSocket;
globalThis.WebSocket = class extends Real {
  constructor(url, protocols) {
    super(url, protocols);
    sockets.push({ url: String(url), protocols, sent: [] });
    this.note = sockets.at(-1);
  }
  send(text) {
    this.note.sent.push(text);
    super.send(text);
  }
};
const realFetch = globalThis.fetch;
globalThis.fetch = (url, init) => {
  requests.push(String(url));
  return realFetch(url, init);
};

function start(options, operations, tokenPath) {
  const token = tokenPath && (async () => (await realFetch(tokenPath)).text());
  const { shared, ...rest } = options;
  const more = { ...(tokenPath ? { token } : {}), ...(shared ? { WebSocket: sharedWebSocket(shared) } : {}) };
  const client = new TidegateClient({ ...rest, ...more });
  clients.push(client);
  for (const operation of operations) {
    const watch = client.watch(operation, { history: "all" });
    const rows = (seen[operation] = []);
    watches.set(operation, watch);
    watch.addEventListener("frame", ({ frame: { type, id, epoch, data } }) =>
      rows.push([type, id, epoch, data, watch.state.cursor]),
    );
    watch.addEventListener("end", () => rows.push(["end", null]));
  }
}

const stateOf = (operation) => {
  const { failure, ...state } = watches.get(operation).state;
  return { ...state, failure: failure && { name: failure.name, code: failure.code, retry: failure.retry } };
};

Object.assign(globalThis, {
  page: {
    start,
    seen: () => seen,
    ids: (operation) => seen[operation].map(([, id]) => id).filter(Boolean),
    state: stateOf,
    watch: (operation) => watches.get(operation),
    are: (connection) => [...watches.values()].every(({ state }) => state.connection === connection),
    statuses: () => Object.fromEntries([...watches].map(([id, { state }]) => [id, state.status])),
    sockets: () => sockets,
    requests: () => requests,
    /** Watch and leave again, without keeping anything; the clients take turns. */
    async churn(operations) {
      const live = operations.map((operation, n) => {
        const watch = clients[n % clients.length].watch(operation);
        return new Promise((go) => {
          watch.addEventListener("frame", () => {
            watch.close();
            go();
          });
        });
      });
      await Promise.all(live);
      globalThis.churned = (globalThis.churned ?? 0) + operations.length;
    },
  },
});
