/**
 * Built-in rewards whose time depends on the completion (a pattern may backtrack for ever, a schema may hold patterns),
 * with a limit of processor time a sample: what goes over it is unscorable, and the others are scored.
 */
import { setImmediate as yieldToEvents } from 'node:timers/promises'
import { createContext, Script } from 'node:vm'
import { SAMPLE_TIME_TRIES } from '../defaults.ts'
import type { Scorer } from './built-in.ts'
import type { RewardFunction, RewardSample, Score } from './types.ts'

/** Calls `work` of its context; V8 interrupts compiled code and its matcher of regular expressions alike. */
const CALL = new Script('work()')

/**
 * A reward function that gives each sample at most `limitMs` of processor time; a sample over it gets an Error that
 * names `what` (a pattern, never the completion) and says what to do. One interruptible run scores the batch; its
 * watchdog costs a fraction of a millisecond, whatever the batch.
 */
export function boundedReward(name: string, what: string, limitMs: number, scorer: Scorer): RewardFunction {
  return {
    name,
    deterministic: true,
    async score(samples, { signal }) {
      const scores: (Score | Error)[] = []
      while (scores.length < samples.length) {
        const isInTime = interruptible(limitMs, () => {
          for (const sample of samples.slice(scores.length)) scores.push(scorer(sample))
        })
        const sample = samples[scores.length]
        if (isInTime || sample === undefined) break
        // The run may have spent its time on the samples before: this one now has all of it to itself.
        const alone = scoreAlone(scorer, sample, limitMs)
        scores.push(alone ?? overtime(what, limitMs))
        // Many bad samples take long together: a cancel is read between them, and the call's deadline passes.
        await yieldToEvents()
        if (signal.aborted) return samples.map((_, place) => scores[place] ?? (signal.reason as Error))
      }
      return scores
    },
  }
}

/** The score of one sample; undefined when it took all its time. A run that others kept from the processor is tried again. */
function scoreAlone(scorer: Scorer, sample: RewardSample, limitMs: number): Score | undefined {
  for (let attempt = 0; attempt < SAMPLE_TIME_TRIES; attempt++) {
    let score: Score = null
    const before = processorMs()
    const isInTime = interruptible(limitMs, () => {
      score = scorer(sample)
    })
    if (isInTime) return score
    if (processorMs() - before >= limitMs / 2) return undefined
  }
  return undefined
}

/** Whether `work` ended by itself within `limitMs`; what it throws is thrown. */
function interruptible(limitMs: number, work: () => void): boolean {
  try {
    CALL.runInContext(createContext({ work }), { timeout: limitMs })
    return true
  } catch (error) {
    // It is an Error of the context, not of this realm.
    const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
    if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return false
    throw error
  }
}

/** Processor time of this thread so far, milliseconds. */
function processorMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

function overtime(what: string, limitMs: number): Error {
  return new Error(
    `${what} took more than ${limitMs} ms of processor time on this completion; write it so that it cannot backtrack without end (no repetition inside a repetition), or raise sample_timeout_ms`,
  )
}
