/** The dialog that asks the demo backend for an operation. */

import { $, put } from "./dom.js";
import { post } from "./post.js";

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
      const { operation } = await post(replicas, "demo/operations", query);
      sheet.close();
      started(operation);
    } catch (error) {
      put($("sheet-error"), error.message);
    } finally {
      isBusy = false;
    }
  });
}
