// The client where there is no page: watches one operation to its end, and tells what came.
import { TidegateClient } from "/package/dist/index.js";

self.onmessage = async ({ data: { url, operation } }) => {
  const ids = [];
  const watch = new TidegateClient({ url }).watch(operation);
  for await (const { id } of watch) if (id) ids.push(id);
  self.postMessage({ ids, status: watch.state.status });
};
