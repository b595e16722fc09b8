/**
 * The local steps of a round: from one shared state, on this node's own data, each in the trace before the next begins.
 * What they changed becomes a delta later: with overlap only once the round before it has committed.
 */
import { GspoError, type StepRecord, type StepStats } from '@gym-node/gspo'
import { NodeError } from './errors.ts'
import type { LoopParts } from './loop-parts.ts'
import type { TraceFile } from './state/trace-file.ts'

/** Local steps that are done and not yet a delta. */
export interface LocalSteps {
  readonly round: number
  /** The shared state they started from. */
  readonly stateSha3: string
  readonly steps: readonly StepStats[]
  readonly traceSha3: string | null
  readonly adapterBefore: Float32Array
  readonly adapterAfter: Float32Array
  readonly stateBefore: Uint8Array
  readonly stateAfter: Uint8Array
}

/** A replay of this node's own steps: they are computed again, not judged. */
const NO_CHECKS = { recompute: [[]], resample: [[]], rescore: false } as const

/** Engine errors that say that a trace's steps cannot be computed again here. */
const UNREPEATABLE: readonly string[] = ['BAD_TRACE', 'NON_FINITE']

/**
 * Takes the local steps of `round` from the current state. Null when the ring went on meanwhile, or `isOver` said
 * between two steps that they are not wanted any more.
 */
export async function takeSteps(
  parts: LoopParts,
  round: number,
  signal: AbortSignal,
  isOver: () => boolean = () => false,
): Promise<LocalSteps | null> {
  const { trainer, state, emit } = parts
  const { stateSha3, adapter: adapterBefore } = state
  emit({ type: 'state', state: 'training', reason: `local steps of round ${round}` })
  // With overlap the trainer may still be where the steps of the round before ended.
  if (parts.overlap) await trainer.writeAdapter(adapterBefore)
  const stateBefore = await trainer.exportState()
  const trace = await parts.openTrace(round, stateBefore)
  try {
    const steps = trace === null ? [] : await repeatSteps(parts, trace, round, stateBefore, signal)
    while (steps.length < parts.aggregateInterval && state.stateSha3 === stateSha3) {
      if (isOver()) return null
      const record = await trainer.step({ signal })
      await trace?.append(record.trace)
      steps.push(record.stats)
      emit({ type: 'step', round, stats: record.stats })
      for (const message of rewardTrouble(record)) emit({ type: 'error', code: 'REWARD_FAILED', message })
      for (const sample of record.samples) emit({ type: 'rollout', step: record.stats.step, ...sample })
    }
    const adapterAfter = await trainer.readAdapter()
    const stateAfter = await trainer.exportState()
    const traceSha3 = trace === null ? null : await trace.sha3()
    if (state.stateSha3 !== stateSha3) return null
    return { round, stateSha3, steps, traceSha3, adapterBefore, adapterAfter, stateBefore, stateAfter }
  } finally {
    await trace?.close()
  }
}

/**
 * Computes the steps again that a crash cut the round off after: from the trace, so without sampling, to the same bits.
 * When that fails the round begins anew.
 */
async function repeatSteps(
  { trainer, emit, aggregateInterval }: LoopParts,
  trace: TraceFile,
  round: number,
  stateBefore: Uint8Array,
  signal: AbortSignal,
): Promise<StepStats[]> {
  if (trace.stepsLeft > aggregateInterval) await trace.restart() // the interval was shortened since
  const steps: StepStats[] = []
  try {
    for await (const step of trace.left()) {
      const [repeated] = await trainer.replay([step], { ...NO_CHECKS, signal })
      if (repeated === undefined) break
      steps.push(repeated.stats)
      emit({ type: 'step', round, stats: repeated.stats })
    }
    return steps
  } catch (error) {
    if (signal.aborted || !(error instanceof GspoError) || !UNREPEATABLE.includes(error.code)) throw error
    emit({ type: 'error', code: error.code, message: `round ${round} begins anew: ${error.message}` })
    await trainer.importState(stateBefore)
    await trace.restart()
    return []
  }
}

/** What an operator reads of a step's rewards that failed: one line a reward, with the first place. Pure. */
export function rewardTrouble({ stats, rewardFailures }: StepRecord): string[] {
  return [...new Set(rewardFailures.map(({ reward }) => reward))].map((reward) => {
    const [first, ...others] = rewardFailures.filter((failure) => failure.reward === reward)
    const place = `data position ${first?.dataPosition}, completion ${first?.completion}`
    const more =
      others.length === 0 ? '' : ` (and ${others.length} more; ${stats.unscorable} unscorable in all)`
    return `step ${stats.step}: reward ${reward} gave no score at ${place}: ${first?.message}${more}`
  })
}

/** a - b, refusing a number that is not finite: such a delta would poison every node. */
export function subtract(a: Float32Array, b: Float32Array): Float32Array {
  const difference = new Float32Array(a.length)
  for (let i = 0; i < a.length; i++) {
    const value = (a[i] ?? 0) - (b[i] ?? 0)
    if (!Number.isFinite(value)) throw new NodeError('NON_FINITE', `element ${i} of the delta is ${value}`)
    difference[i] = value
  }
  return difference
}
