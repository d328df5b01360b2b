/** The conformance kit (clients/vectors): the same cases that the Python clients pass. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { answered } from "../src/answers.js";
import { createCourse, type Decision } from "../src/course.js";
import { createFold, isEntry, type OperationState } from "../src/state.js";
import { type Json, parse, position } from "../src/values.js";

const VECTORS = process.env.VECTORS!;
const OPERATION = "42";

interface Then {
  do: "finish" | "refuse" | "return";
  status?: string;
  close?: number;
  after_ms?: [number, number];
  last_event_id?: string | null;
}
interface Step {
  frame?: Json;
  text?: string;
  close?: number;
  http?: number;
  retry_after?: string;
  then?: Then;
}
interface Case {
  name: string;
  after?: string;
  renewable?: boolean;
  repeated?: Record<string, [part: string, times: number]>;
  steps: Step[];
  shown: [unknown, string | null][];
  state: Json;
}

/** As the vectors write it. */
function written(state: OperationState): Json {
  const { startedAt, updatedAt, endedAt, estimatedEndAt, resultOmitted, ...rest } = state;
  const times = { started_ms: startedAt, updated_ms: updatedAt, ended_ms: endedAt };
  return { ...rest, ...times, estimated_end_ms: estimatedEndAt, result_omitted: resultOmitted };
}

function check(decision: Decision, then: Then, state: OperationState, bound: 0 | 1): void {
  assert.equal(decision.do, then.do);
  if (decision.do === "finish") assert.equal(state.status, then.status);
  if (decision.do === "refuse") assert.equal(decision.close, then.close);
  if (decision.do === "return") {
    assert.ok(Math.abs(decision.ms - then.after_ms![bound]) < 1e-6, `${decision.ms} ms`);
    assert.equal(state.cursor, then.last_event_id);
  }
}

/** `looks`: the state is read behind each frame, so that no entry waits to be folded. */
function run(one: Case, bound: 0 | 1, looks: boolean): void {
  const course = createCourse(one.renewable ?? false, () => bound);
  const fold = createFold(position(one.after));
  const shown: unknown[] = [];
  for (const step of one.steps) {
    if (step.then) {
      const decision =
        step.close === undefined
          ? answered(course, step.http, step.retry_after, fold.folded().ended)
          : course.closed(step.close, fold.folded().ended);
      check(decision, step.then, fold.folded(), bound);
      continue;
    }
    const frame = parse(step.text ?? JSON.stringify(step.frame));
    if (!frame || (typeof frame.operation === "string" && frame.operation !== OPERATION)) continue;
    const before = looks ? { ...fold.folded() } : null;
    const isNew = fold.take(frame);
    if (isNew || !isEntry(frame)) course.heard(frame);
    if (!isNew && before) assert.deepEqual(fold.folded(), before);
    if (!isNew) continue;
    shown.push([frame.type ?? null, isEntry(frame) ? (frame.id ?? null) : null]);
  }
  assert.deepEqual(shown, one.shown);
  assert.deepEqual(written(fold.folded()), { ...written(createFold(position(one.after)).folded()), ...one.state });
}

let count = 0;
for (const file of readdirSync(VECTORS).filter((name) => name.endsWith(".json"))) {
  const { cases } = JSON.parse(readFileSync(join(VECTORS, file), "utf8")) as { cases: Case[] };
  for (const { repeated = {}, ...written } of cases) {
    // Long texts are written as names.
    let json = JSON.stringify(written);
    for (const [name, [part, times]] of Object.entries(repeated)) json = json.replaceAll(name, part.repeat(times));
    const one: Case = JSON.parse(json);
    count += 1;
    test(`${file}: ${one.name}`, () => {
      run(one, 0, true);
      run(one, 1, false);
    });
  }
}
test("there are as many cases as are promised", () => assert.ok(count >= 380));
