/**
 * The work of a node, read from top to bottom: wait for the ring, take local steps, write the signed delta,
 * all-reduce it, apply the outer update, commit, again. It opens and closes nothing: the daemon does.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { StepStats } from '@gym-node/gspo'
import { RingError, type RoundResult, type View } from '@gym-node/ring'
import { LAST_ROUND_LINGER_MS, LINGER_POLL_MS, RETRY_PAUSE_MS, STOP_GRACE_MS } from './defaults.ts'
import { NodeError } from './errors.ts'
import { subtract, takeSteps, type LocalSteps } from './local-steps.ts'
import type { LoopParts, WrittenDelta } from './loop-parts.ts'
import { Newcomers } from './newcomers.ts'
import type { JobState } from './state/job-state.ts'
import type { DaemonEvent } from './status.ts'
import type { RoundRecord } from './validate/round-records.ts'
import { sayWhileWaiting } from './waiting.ts'

/** Why the loop ended without an error. */
export type LoopEnd = 'limit' | 'stopped' | 'paused'

/** A trained delta that waits to be reduced. */
interface PendingDelta {
  readonly round: number
  readonly stateSha3: string
  readonly weight: number
  readonly written: WrittenDelta
}

/** Ring errors after which the same delta is offered again, once the ring is whole. */
const RETRIED: readonly string[] = [
  'PEER_LOST',
  'TIMEOUT',
  'VIEW_CHANGED',
  'HASH_MISMATCH',
  'ROUND_SUPERSEDED',
  'OUT_OF_SYNC',
]

/** Runs rounds until the limit, `stop` or `pause`. Throws what cannot be mended by trying again. */
export async function runLoop(parts: LoopParts): Promise<LoopEnd> {
  const { ring, state, emit, stop, pause } = parts
  let pending: PendingDelta | null = null
  let ahead: LocalSteps | null = null
  let last: Commit | null = null
  let isFirst = true
  const newcomers = new Newcomers()
  // A step that is killed takes the engine with it, and that is still needed to commit the round under way.
  const patient = delayed(stop, STOP_GRACE_MS)
  try {
    for (;;) {
      if (parts.rounds !== null && state.round >= parts.rounds) {
        await linger(parts)
        return 'limit'
      }
      if (stop.aborted) return 'stopped'
      if (pause.aborted) return 'paused'

      const ready = ring.ready({ signal: AbortSignal.any([stop, pause]) })
      const view = await sayWhileWaiting(ready, { ...parts, status: () => ring.status, isFirst })
      isFirst = false
      if (parts.rounds !== null && state.round >= parts.rounds) continue

      if (pending !== null && !isUsable(state, pending, last)) pending = ahead = null
      if (pending === null) {
        if (ahead !== null && !isUsable(state, ahead, last)) ahead = null
        const local = ahead ?? (await takeSteps(parts, state.round + 1, stop))
        ahead = null
        if (local === null) continue // the ring went on meanwhile
        pending = await writeDelta(parts, view, local)
        if (!isUsable(state, pending, last)) continue
      }
      if (parts.overlap) await newcomers.letIn(ring, stop)
      emit({ type: 'state', state: 'reducing', reason: `all-reduce of round ${pending.round}` })
      const isLast = parts.rounds !== null && pending.round >= parts.rounds
      const stepsAhead: Promise<LocalSteps | null> =
        parts.overlap && !isLast && ahead === null
          ? takeSteps(parts, pending.round + 1, patient.signal, () => stop.aborted || pause.aborted)
          : Promise.resolve(ahead)
      const [reduced, stepped] = await Promise.allSettled([reduce(parts, pending), stepsAhead])
      if (reduced.status === 'rejected') throw reduced.reason
      if (reduced.value !== null) {
        last = await commit(parts, pending, reduced.value)
        pending = null
      }
      if (stepped.status === 'rejected') throw stepped.reason
      ahead = stepped.value
    }
  } catch (error) {
    // What happens to the state folder is said even while stopping; all else is how the calls end that were cut short.
    if (stop.aborted && !(error instanceof NodeError)) return 'stopped'
    if (pause.aborted && isAbort(error, pause)) return 'paused'
    throw error
  } finally {
    patient.release()
  }
}

/** Aborts this much later than `signal`. */
function delayed(
  signal: AbortSignal,
  ms: number,
): { readonly signal: AbortSignal; readonly release: () => void } {
  const controller = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const begin = (): void => {
    timer = setTimeout(() => controller.abort(signal.reason), ms)
  }
  if (signal.aborted) begin()
  else signal.addEventListener('abort', begin, { once: true })
  const release = (): void => {
    clearTimeout(timer)
    signal.removeEventListener('abort', begin)
  }
  return { signal: controller.signal, release }
}

/** The state before a commit of this node's own, and the one that it made. */
interface Commit {
  readonly from: string
  readonly to: string
}

/**
 * Whether work for the next round may go into it: done from the current state, or, with overlap, from the one that this
 * node's last commit replaced. After a state that was taken over from others it begins anew.
 */
function isUsable(
  state: JobState,
  work: { readonly round: number; readonly stateSha3: string },
  last: Commit | null,
): boolean {
  const { stateSha3, round } = state
  if (work.round !== round + 1) return false
  return work.stateSha3 === stateSha3 || (last?.to === stateSha3 && last.from === work.stateSha3)
}

/** Applies a reduced round, durably. */
async function commit(parts: LoopParts, { written }: PendingDelta, result: RoundResult): Promise<Commit> {
  const { state, emit } = parts
  const from = state.stateSha3
  const adapterBefore = state.adapterSha3
  await state.commit(result.round, result.mean, isCounted(result, written) ? written.residual : null)
  result.release() // the adapter has it
  const status = toRoundStatus(result, state.adapterSha3)
  await parts.recordRound(toRecord(result, adapterBefore, status.adapter_sha3_256))
  emit({ type: 'round', round: status })
  return { from, to: state.stateSha3 }
}

/** The delta of local steps, durable before it is returned. */
async function writeDelta(parts: LoopParts, view: View, local: LocalSteps): Promise<PendingDelta> {
  const { round, stateSha3, steps, traceSha3 } = local
  const { adapterBefore, adapterAfter, stateBefore, stateAfter } = local
  const values = subtract(adapterAfter, adapterBefore)
  const weight = roundWeight(steps)
  const written = await parts.writeDelta({
    round,
    view,
    steps,
    traceSha3,
    residual: parts.state.residual,
    weight,
    values,
    adapterBefore,
    adapterAfter,
    stateBefore,
    stateAfter,
  })
  return { round, stateSha3, weight, written }
}

/** Whether the ring's result holds this node's delta: a result that was held over from before a restart may not. */
function isCounted({ contributions }: RoundResult, { commitment }: WrittenDelta): boolean {
  return contributions.some(
    (each) => each.commitment !== null && Buffer.compare(each.commitment, commitment) === 0,
  )
}

/** The all-reduce; null when the ring went another way and `ready` must be asked again. */
async function reduce(
  parts: LoopParts,
  { round, weight, written: { sent, commitment } }: PendingDelta,
): Promise<RoundResult | null> {
  try {
    return await parts.ring.allReduce(sent, { round, weight, commitment, signal: parts.abandon })
  } catch (error) {
    if (!(error instanceof RingError) || !RETRIED.includes(error.code) || parts.stop.aborted) throw error
    parts.emit({ type: 'error', code: error.code, message: `round ${round}: ${error.message}` })
    await sleep(RETRY_PAUSE_MS, undefined, { signal: parts.stop })
    return null
  }
}

/**
 * A node's weight in the mean: the completions it sampled. Not those that carried signal: that number depends
 * on luck and on the rewards, so it would pull the mean towards nodes with hard prompts and pay for noise;
 * completions sampled follow from the configuration and can be counted in the trace.
 */
export function roundWeight(steps: readonly Pick<StepStats, 'completions'>[]): number {
  return steps.reduce((sum, step) => sum + step.completions, 0)
}

/** Stays until every member that is alive reports the last round, so that none has to commit it without this node. */
async function linger(parts: LoopParts): Promise<void> {
  const { ring, state, stop } = parts
  const deadline = performance.now() + LAST_ROUND_LINGER_MS
  while (!stop.aborted && performance.now() < deadline) {
    const behind = ring.status.members.some(
      (member) =>
        member.peerId !== ring.peerId && member.inView && member.alive && (member.round ?? 0) < state.round,
    )
    if (!behind) return
    await sleep(LINGER_POLL_MS, undefined, { signal: stop })
  }
}

function toRoundStatus(
  result: RoundResult,
  adapterSha3: string,
): Extract<DaemonEvent, { type: 'round' }>['round'] {
  return {
    round: result.round,
    epoch: result.view.epoch,
    duration_ms: result.durationMs,
    bytes_sent: result.bytesSent,
    bytes_received: result.bytesReceived,
    contributors: result.contributors,
    attempts: result.attempts,
    result_sha3_256: Buffer.from(result.hash).toString('hex'),
    adapter_sha3_256: adapterSha3,
  }
}

/** What a validator may ask about the round. */
function toRecord(result: RoundResult, adapterBefore: string, adapterAfter: string): RoundRecord {
  return {
    round: result.round,
    epoch: result.view.epoch,
    contributions: result.contributions.map(({ peerId, weight, commitment }) => ({
      peer_id: peerId,
      weight,
      commitment: commitment === null ? null : Buffer.from(commitment).toString('hex'),
    })),
    result_sha3_256: Buffer.from(result.hash).toString('hex'),
    adapter_before: adapterBefore,
    adapter_after: adapterAfter,
  }
}

/** True when `error` is how a call ends whose signal was aborted. */
function isAbort(error: unknown, signal: AbortSignal): boolean {
  return error === signal.reason || (error instanceof Error && error.name === 'AbortError')
}
