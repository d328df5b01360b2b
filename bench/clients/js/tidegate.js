import { TidegateClient } from "@tidegate/client";
import { run } from "./page.js";

run((url, operations, update) => {
  const client = new TidegateClient({ url });
  for (const operation of operations) {
    const onFrame = (frame) => {
      if (frame.id) update(operation, frame.data);
    };
    client.watch(operation, { history: 1, onFrame });
  }
});
