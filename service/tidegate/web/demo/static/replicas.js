/**
 * The replicas, and the clients that reach them.
 *
 * A light for each replica: a client that knows this one only, and watches the index, so it comes
 * back by itself when the replica does. Operations are watched by other clients, each of which
 * prefers one replica and goes on through the rest when that is gone.
 */

import { TidegateClient } from "./tidegate.js";

export class Replicas extends EventTarget {
  #index;
  #next = 0;
  /** Preferred replica -> the connection that new operations get. */
  #connections = new Map();

  constructor(urls, index) {
    super();
    this.#index = index;
    this.all = urls.map((url, at) => ({ url, number: at + 1, host: new URL(url).host, isUp: null }));
    this.reconnects = 0;
    for (const replica of this.all) this.#light(replica);
  }

  /** Which replica an address of a socket belongs to. */
  at(url) {
    return this.all.find((replica) => replica.url === url) ?? null;
  }

  /** The connection for one more operation: replicas in turn, those that are there. */
  choose() {
    const up = this.all.filter(({ isUp }) => isUp !== false);
    const among = up.length ? up : this.all;
    const preferred = among[this.#next++ % among.length];
    let found = this.#connections.get(preferred);
    // One that has gone elsewhere stays there with what it has; its replica gets a new one.
    if (found?.replica && found.replica !== preferred && preferred.isUp) {
      found.retire();
      found = undefined;
    }
    if (!found) this.#connections.set(preferred, (found = new Connection(this, preferred)));
    return found;
  }

  told(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #light(replica) {
    const client = new TidegateClient({ url: replica.url });
    const watch = client.watch(this.#index, { history: "none" });
    const look = () => {
      const { connection } = watch.state;
      // The first attempt may take a moment; before it is over nothing is known.
      const isUp = connection === "live" ? true : connection === "connecting" && replica.isUp === null ? null : false;
      if (isUp === replica.isUp) return;
      const was = replica.isUp;
      replica.isUp = isUp;
      this.told("light", { replica, was });
    };
    for (const type of ["change", "end", "error"]) watch.addEventListener(type, look);
  }
}

class Connection {
  #replicas;
  #uses = 0;
  #isRetired = false;

  constructor(replicas, preferred) {
    this.#replicas = replicas;
    /** Where its socket is, or was last. */
    this.replica = null;
    const report = (url) => this.#opened(url);
    const others = replicas.all.filter((replica) => replica !== preferred);
    this.client = new TidegateClient({
      url: [preferred, ...others].map(({ url }) => url),
      WebSocket: class extends WebSocket {
        constructor(url, protocols) {
          super(url, protocols);
          this.addEventListener("open", () => report(this.url));
        }
      },
    });
  }

  /** An operation is watched through it; call what is returned when that is over. */
  use() {
    this.#uses += 1;
    return () => {
      this.#uses -= 1;
      this.#closeIfDone();
    };
  }

  retire() {
    this.#isRetired = true;
    this.#closeIfDone();
  }

  #closeIfDone() {
    if (this.#isRetired && this.#uses === 0) this.client.close();
  }

  #opened(address) {
    const url = new URL(address);
    url.protocol = url.protocol.replace("ws", "http");
    const before = this.replica;
    this.replica = this.#replicas.at(url.origin);
    if (before) this.#replicas.reconnects += 1;
    this.#replicas.told("moved", { connection: this, before, replica: this.replica });
  }
}
