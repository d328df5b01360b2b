/** The dialog that asks the demo backend for an operation. */

import { $, put } from "./dom.js";

/** Calls `started` with the id of each operation that was asked for. */
export function setUpPublishing(replicas, started) {
  const sheet = $("sheet");
  const form = $("sheet-form");
  $("publish").addEventListener("click", () => {
    put($("sheet-error"), "");
    sheet.showModal();
  });
  $("sheet-cancel").addEventListener("click", () => sheet.close());
  sheet.addEventListener("click", (event) => event.target === sheet && sheet.close());
  let isBusy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isBusy) return;
    isBusy = true;
    put($("sheet-error"), "");
    try {
      const query = new URLSearchParams(new FormData(form));
      const operation = await ask(replicas, query);
      sheet.close();
      started(operation);
    } catch (error) {
      put($("sheet-error"), error.message);
    } finally {
      isBusy = false;
    }
  });
}

/** The replica of this page first; it may be the one that was killed. */
async function ask(replicas, query) {
  const own = new URL("demo/operations", location.href);
  const up = replicas.all.filter(({ isUp }) => isUp !== false).map(({ url }) => new URL("demo/operations", `${url}/`));
  const isHere = (url) => url.origin === own.origin;
  const addresses = up.some(isHere) || !up.length ? [own, ...up.filter((url) => !isHere(url))] : up;
  for (const address of addresses) {
    address.search = String(query);
    let answer;
    try {
      answer = await fetch(address, { method: "POST", cache: "no-store", signal: AbortSignal.timeout(5_000) });
    } catch {
      continue; // nobody is there
    }
    const body = await answer.json().catch(() => ({}));
    if (answer.ok) return body.operation;
    throw new Error(body.detail ?? `the gateway responded with ${answer.status}`);
  }
  throw new Error("No replica responds. Try again in a moment.");
}
