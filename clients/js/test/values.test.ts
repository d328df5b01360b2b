import assert from "node:assert/strict";
import { test } from "node:test";

import { below, isAfter, position } from "../src/values.js";

const HALVES = ["0", "1", "9", "10", "99", "100", "9999999999999999999", "10000000000000000000", "18446744073709551615"];

test("positions are ordered as pairs of 64-bit numbers", () => {
  const all = HALVES.flatMap((ms) => HALVES.map((seq) => `${ms}-${seq}`));
  for (const [at, one] of all.entries()) {
    assert.equal(position(one), one);
    assert.ok(isAfter(one, null));
    for (const [other, two] of all.entries()) assert.equal(isAfter(one, two), at > other, `${one} after ${two}`);
  }
});

test("a position is written in one way", () => {
  for (const [written, id] of [
    ["7", "7-0"],
    ["007-01", "7-1"],
    ["00000000000000000000-0", "0-0"],
    ["18446744073709551615", "18446744073709551615-0"],
  ])
    assert.equal(position(written), id);
  for (const none of ["18446744073709551616", "1-18446744073709551616", "-1", "1-", "1-2-3", " 1", "0x1", "", 1, null])
    assert.equal(position(none), null, String(none));
});

test("the position below one", () => {
  assert.equal(below("5-3"), "5-2");
  assert.equal(below("5-0"), "4-18446744073709551615");
  assert.equal(below("0-0"), "0-0");
  assert.equal(below(null), null);
});
