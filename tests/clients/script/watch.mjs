// For Node and Deno: watches one operation to its end and prints what came, as JSON lines:
// [type, id], then the state.
import { pathToFileURL } from "node:url";

const [packageFolder, url, operation, token] = process.argv.slice(2);
const { TidegateClient } = await import(pathToFileURL(`${packageFolder}/dist/index.js`));
const client = new TidegateClient({ url, ...(token ? { token } : {}) });
const watch = client.watch(operation, { history: "all" });
try {
  for await (const { type, id } of watch) console.log(JSON.stringify([type, id]));
  const { status, connection, result } = await watch.done;
  console.log(JSON.stringify({ status, connection, result }));
} catch (error) {
  const { name, code, retry, close } = error;
  console.log(JSON.stringify({ name, code, retry, close }));
}
client.close();
