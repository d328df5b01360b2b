/**
 * Time left, from the rate so far; said only when it means something: after a while, after some
 * progress, and not while nothing moves.
 */

const LEAST_MS = 3_000;
const LEAST_PROGRESS = 0.03;
/** What takes longer than a day is not told by the minute. */
const MOST_MS = 86_400_000;
/** Without progress for so many times what it took on average, the rate of before tells nothing. */
const PATIENCE = 5;

export interface Remaining {
  /** A figure has come, at a time in ms. */
  sample(progress: number | null, now: number): void;
  /** Milliseconds; null while it would be a guess. */
  left(now: number): number | null;
}

export function createRemaining(): Remaining {
  let from: [progress: number, at: number] | null = null;
  let last: [progress: number, at: number] | null = null;
  let steps = 0;

  return {
    sample(progress, now) {
      if (progress === null) {
        from = last = null;
        return;
      }
      // A figure that goes back begins another measurement.
      if (!from || !last || progress < last[0]) {
        from = [progress, now];
        steps = 0;
      }
      if (progress === last?.[0]) return;
      steps += 1;
      last = [progress, now];
    },

    left(now) {
      if (!from || !last) return null;
      const [done, ms] = [last[0] - from[0], last[1] - from[1]];
      if (done < LEAST_PROGRESS || ms < LEAST_MS || last[0] >= 1) return null;
      if (now - last[1] > Math.max(LEAST_MS, (PATIENCE * ms) / steps)) return null;
      const left = ((1 - last[0]) / done) * ms - (now - last[1]);
      return left > MOST_MS ? null : Math.max(0, left);
    },
  };
}
