/** One thing that `doctor` has looked at, with what to do about it. */

/** One thing looked at. */
export interface Finding {
  readonly verdict: 'ok' | 'warning' | 'fault'
  readonly what: string
  readonly seen: string
  /** What to do; empty when nothing is to be done. */
  readonly advice: string
}

/** A finding; `advice` may be left out where nothing is to be done. Pure. */
export function finding(verdict: Finding['verdict'], what: string, seen: string, advice = ''): Finding {
  return { verdict, what, seen, advice }
}
