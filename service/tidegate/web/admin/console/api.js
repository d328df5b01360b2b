/** Requests to this replica. The token is kept here and nowhere else. */

const TIMEOUT_MS = 10_000;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let token = "";

export const setToken = (text) => {
  token = text;
};

/** What a GET, or a POST, is answered with. Throws Refused with the replica's own words. */
export async function ask(path, { method = "GET", query = {} } = {}) {
  const url = new URL(path, location.origin);
  url.search = String(new URLSearchParams(query));
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(url, { method, headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  const { detail } = body;
  throw new Refused(answer.status, typeof detail === "string" ? detail : `the replica responded with ${answer.status}`);
}
