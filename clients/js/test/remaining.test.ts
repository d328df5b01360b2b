/** Time left: said when it means something, and then about right. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createRemaining } from "../src/remaining.js";

const SECOND = 1000;

function after(...samples: [progress: number | null, seconds: number][]) {
  const remaining = createRemaining();
  for (const [progress, seconds] of samples) remaining.sample(progress, seconds * SECOND);
  return remaining;
}

test("an even rate", () => {
  const remaining = after([0, 0], [0.1, 10], [0.2, 20], [0.25, 25]);
  assert.equal(remaining.left(25 * SECOND), 75 * SECOND);
  assert.equal(remaining.left(30 * SECOND), 70 * SECOND, "time passes between figures");
});

test("nothing is said too early", () => {
  assert.equal(after().left(0), null);
  assert.equal(after([0.5, 0]).left(SECOND), null);
  assert.equal(after([0, 0], [0.5, 1]).left(SECOND), null);
  assert.equal(after([0, 0], [0.01, 60]).left(60 * SECOND), null);
});

test("nothing is said while nothing moves", () => {
  const remaining = after([0, 0], [0.1, 2], [0.2, 4], [0.3, 6]);
  assert.ok(remaining.left(8 * SECOND)! > 0);
  assert.equal(remaining.left(60 * SECOND), null);
});

test("nothing is said at the end, of days, and without a figure", () => {
  assert.equal(after([0, 0], [1, 10]).left(10 * SECOND), null);
  assert.equal(after([0, 0], [0.05, 86_400]).left(86_400 * SECOND), null);
  assert.equal(after([0, 0], [0.5, 10], [null, 11]).left(11 * SECOND), null);
});

test("a figure that goes back begins another measurement", () => {
  const remaining = after([0, 0], [0.9, 9], [0.1, 10]);
  assert.equal(remaining.left(10 * SECOND), null);
  remaining.sample(0.2, 20 * SECOND);
  assert.equal(remaining.left(20 * SECOND), 80 * SECOND);
});
