/** Runs cases of a fuzz target by their numbers. */
import { Random } from '../sim/random.ts'
import type { Target } from './target.ts'

/** A case that takes longer than this is a way to stop a node with few bytes. */
const SLOW_CASE_MS = 1000

/** What a series of cases showed. */
export interface FuzzReport {
  readonly cases: number
  readonly seconds: number
  readonly slowestMs: number
  /** growth of the process over the series, in MiB */
  readonly grownMb: number
  readonly failures: readonly { readonly seed: number; readonly reason: string }[]
}

/** The randomness of a case: neighbours in number have nothing in common. */
export function caseRandom(seed: number): Random {
  return new Random(Math.imul(seed, 0x9e3779b1) ^ 0x51ed27)
}

/** Runs cases from `from` on until `until` says stop; collects at most five failures. */
export async function runCases(
  target: Target,
  from: number,
  until: (cases: number) => boolean,
): Promise<FuzzReport> {
  const failures: { seed: number; reason: string }[] = []
  const startedAt = performance.now()
  const before = process.memoryUsage().rss
  let slowestMs = 0
  let cases = 0
  while (!until(cases) && failures.length < 5) {
    const seed = from + cases
    const at = performance.now()
    try {
      await target.run(caseRandom(seed))
    } catch (thrown) {
      failures.push({
        seed,
        reason: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown),
      })
    }
    const ms = performance.now() - at
    slowestMs = Math.max(slowestMs, ms)
    if (ms > SLOW_CASE_MS) failures.push({ seed, reason: `took ${ms.toFixed(0)} ms` })
    cases += 1
  }
  return {
    cases,
    seconds: (performance.now() - startedAt) / 1000,
    slowestMs,
    grownMb: (process.memoryUsage().rss - before) / 2 ** 20,
    failures,
  }
}
