/**
 * What to do after a close: finish, give up, or come back, and when. Pure; clients/vectors has the
 * cases. One course is a connection's, or that of one operation on it.
 */

import { CLOSE_CODES } from "./close-codes.js";
import { isEntry } from "./state.js";
import { type Json, number, object, text } from "./values.js";

export type Decision =
  | { readonly do: "finish"; readonly close?: undefined }
  | { readonly do: "refuse"; readonly close: number }
  /** `asked`: the gateway has named the delay, so nothing cuts it short. */
  | { readonly do: "return"; readonly ms: number; readonly asked?: boolean };

/** Spread of the first attempt: many viewers of one dead replica must not arrive in one instant. */
const FIRST_DELAY_MS = 200;
const MAX_DELAY_MS = 10_000;
const LATER_DELAY_MS = 1_000;
/** A gateway that asks to wait for longer is not believed. */
export const ASKED_DELAY_MAX_MS = 600_000;

const FINISHED = 1000;
const UNAUTHENTICATED = 4401;
const CONNECTION_LIMIT = 4429;
export interface Course {
  /** Said by the `error` frame before a close. */
  errorCode: string;
  errorText: string;
  heard(frame: Json): void;
  /** The connection ended with this close code (1006: without one). */
  closed(code: number, ended?: boolean): Decision;
  /** There was no connection: return, after at least so many ms. */
  failed(least: number): Decision;
  /** Whether a new token may help: the old one was good once, and this has not been tried. */
  mayRenew(): boolean;
}

/** `isRenewable`: each connection gets a new token, so one that has expired is no refusal. */
export function createCourse(isRenewable: boolean, random: () => number = Math.random): Course {
  let isAdmitted = false;
  let isLetIn = false;
  let failures = 0;
  let afterMs: number | null = null;

  return {
    errorCode: "",
    errorText: "",

    heard(frame) {
      const { type } = frame;
      const data = object(frame.data);
      if (isEntry(frame)) failures = 0;
      else if (type === "current_state") {
        isAdmitted = isLetIn = true;
        failures = 0;
      } else if (type === "reconnect") afterMs = number(data.after_ms);
      else if (type === "error") {
        this.errorCode = text(data.code) ?? "";
        this.errorText = text(data.message) ?? "";
      }
    },

    closed(code, ended) {
      const askedMs = afterMs;
      afterMs = null;
      if (ended || code === FINISHED) return { do: "finish" };
      if (this.mayRenew() && code === UNAUTHENTICATED) return { do: "return", ms: 0 };
      const comeBack = CLOSE_CODES[code];
      // At the limit from the start there is nothing to wait for; later it may only be that a dead
      // replica still counts for us.
      if (comeBack === "no" || (code === CONNECTION_LIMIT && !isAdmitted)) return { do: "refuse", close: code };
      if (askedMs !== null)
        return { do: "return", ms: Math.min(Math.max(0, askedMs), ASKED_DELAY_MAX_MS), asked: true };
      return this.failed(comeBack === "later" ? LATER_DELAY_MS : 0);
    },

    /** Full jitter: uniform up to a bound that doubles with each failure in a row. */
    failed(least) {
      const bound = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(failures++, 16));
      return { do: "return", ms: least + random() * bound, asked: least > 0 };
    },

    mayRenew() {
      const wasLetIn = isLetIn;
      isLetIn = false;
      return isRenewable && wasLetIn;
    },
  };
}
