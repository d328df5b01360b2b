import { io } from "socket.io-client";
import { run } from "./page.js";

run((url, operations, update) => {
  const socket = io(url, { transports: ["websocket"] }); // faster than its default, a poll first
  socket.on("connect", () => operations.forEach((operation) => socket.emit("join", operation)));
  socket.on("update", (operation, { data }) => update(operation, data));
});
