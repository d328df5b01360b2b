/** What to do after an HTTP answer that is none of those wanted; it goes into http.js. */

import { ASKED_DELAY_MAX_MS, type Course, type Decision } from "./course.js";

const UNAUTHENTICATED = 401;
/** Statuses of clients' faults that time mends. */
const PASSING = [408, 425, 429];

/** `retryAfter`: the header; only seconds are read. `status` is 0 where there was no answer. */
export function answered(course: Course, status = 0, retryAfter?: string | null, ended?: boolean): Decision {
  if (ended) return { do: "finish" };
  if (course.mayRenew() && status === UNAUTHENTICATED) return { do: "return", ms: 0 };
  if (status >= 400 && status < 500 && !PASSING.includes(status)) return { do: "refuse", close: 4000 + status };
  const seconds = retryAfter && /^\d+$/.test(retryAfter) ? Number(retryAfter) : 0;
  return course.failed(Math.min(seconds * 1000, ASKED_DELAY_MAX_MS));
}
