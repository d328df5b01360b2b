// Reads a stream with the published client, when it is live until it is closed; prints each message
// as a line, and where it stands then.
import { stream } from "@durable-streams/client";

const [url, live, offset, token] = process.argv.slice(2);
const headers = token ? { Authorization: `Bearer ${token}` } : {};
const print = (value) => console.log(JSON.stringify(value));
const printEnd = ({ offset, upToDate, streamClosed }) => print({ offset, upToDate, closed: streamClosed });
try {
  const response = await stream({ url, offset, live: live === "false" ? false : live, headers });
  if (live === "false") {
    for (const item of await response.json()) print(item);
    printEnd(response);
  } else {
    response.subscribeJson((batch) => {
      for (const item of batch.items) print(item);
      if (batch.streamClosed) printEnd(batch);
    });
  }
} catch (error) {
  print({ name: error.name, code: error.code, status: error.status });
}
