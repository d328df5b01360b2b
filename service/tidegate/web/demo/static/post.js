/** A request that changes something, to any replica that answers. */

/** The replica of this page first; it may be the one that was killed. */
export async function post(replicas, path, query = "") {
  const own = new URL(path, location.href);
  const up = replicas.all.filter(({ isUp }) => isUp !== false).map(({ url }) => new URL(path, `${url}/`));
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
    if (answer.ok) return body;
    throw new Error(body.detail ?? `the gateway responded with ${answer.status}`);
  }
  throw new Error("No replica responds. Try again in a moment.");
}
