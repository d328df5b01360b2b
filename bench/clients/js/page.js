// What each client's page does with an update: keep it, count it, and see whether it is the next one.
const NUMBER = [22, 30]; // of an entry in its operation, in `mark` (bench/mark.py)
const asked = new URLSearchParams(location.search);
const operations = Number(asked.get("operations"));
const latest = new Map();
const next = new Map();
const seen = { updates: 0, lost: 0, again: 0, silenceMs: 0, firstMs: 0 };
let at = 0;

function update(operation, data) {
  const now = performance.now();
  const number = Number(data.mark.slice(...NUMBER));
  const due = next.get(operation) ?? number;
  if (number < due) {
    seen.again += 1;
    return;
  }
  seen.firstMs ||= now;
  seen.lost += number - due;
  seen.silenceMs = Math.max(seen.silenceMs, now - at);
  seen.updates += 1;
  at = now;
  next.set(operation, number + 1);
  latest.set(operation, data);
}

/** `connect(url, operations, update)` of one client. */
export function run(connect) {
  const names = Array.from({ length: operations }, (_, n) => `bench-${String(n).padStart(5, "0")}`);
  connect(asked.get("url"), names, update);
  globalThis.bench = {
    seen,
    has: (entries) => names.every((name) => next.get(name) >= entries),
    /** From now on. */
    begin: () => Object.assign(seen, { updates: 0, lost: 0, again: 0, silenceMs: 0 }),
  };
}
