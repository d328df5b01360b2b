import { Centrifuge } from "centrifuge";
import { run } from "./page.js";

run((url, operations, update) => {
  const client = new Centrifuge(`${url.replace("http", "ws")}/connection/websocket`);
  for (const operation of operations) {
    const subscription = client.newSubscription(operation);
    subscription.on("publication", ({ data }) => update(operation, data.data));
    // Where it is now, as far as the page does not know it yet.
    subscription.once("subscribed", async () => {
      const { publications } = await subscription.history({ limit: 1, reverse: true });
      for (const { data } of publications) update(operation, data.data);
    });
    subscription.subscribe();
  }
  client.connect();
});
