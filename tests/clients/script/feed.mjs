// For Node and Deno: watches a feed, cancels the operation that is named, and prints each list that differs from the
// one before, as JSON lines, until that operation has ended.
import { pathToFileURL } from "node:url";

const [packageFolder, url, name, operation] = process.argv.slice(2);
const of = (file) => import(pathToFileURL(`${packageFolder}/dist/${file}`));
const { TidegateClient } = await of("index.js");
const { cancel } = await of("cancel.js");
const { watchFeed } = await of("feed.js");
const client = new TidegateClient({ url });
const feed = watchFeed(client, name);
let before = "";
let isAsked = false;
await new Promise((done, fail) => {
  feed.addEventListener("change", () => {
    const list = feed.operations.map(({ operation, title, state }) => [operation, title, state.status]);
    const line = JSON.stringify(list);
    if (line !== before) console.log(line);
    before = line;
    const mine = feed.operations.find((one) => one.operation === operation);
    if (mine?.state.status === "running" && !isAsked) {
      isAsked = true;
      cancel(client, operation).then(({ repeated }) => repeated && fail(new Error("repeated")), fail);
    }
    if (mine?.state.finished) done();
  });
  feed.addEventListener("error", () => fail(feed.failure));
});
await cancel(client, operation).catch(({ name, code, close }) => console.log(JSON.stringify({ name, code, close })));
feed.close();
client.close();
