/**
 * The daemon's events as trace spans: one trace a round, with its local steps and their phases, the writing of the
 * delta, the all-reduce and the commit under it; and one span for each change of the view. Pure; `tracing.ts` sends them.
 */
import type { StepStats } from '@gym-node/gspo'
import type { DaemonEvent, RoundStatus } from '../status.ts'

/** A finished span with everything under it. Times are ms since 1970. */
export interface SpanRecord {
  readonly name: string
  readonly start: number
  readonly end: number
  readonly attributes: Readonly<Record<string, string | number>>
  /** Why it did not end well; null when it did. */
  readonly failure: string | null
  readonly notes: readonly SpanNote[]
  readonly children: readonly SpanRecord[]
}

/** Something that happened inside a span. */
export interface SpanNote {
  readonly at: number
  readonly name: string
  readonly attributes: Readonly<Record<string, string>>
}

interface OpenRound {
  round: number | null
  readonly start: number
  /** Where the next part begins: the end of the last one. */
  mark: number
  reducingAt: number | null
  readonly notes: SpanNote[]
  readonly children: SpanRecord[]
}

/** Most steps and errors kept of one round: a round that hangs must not grow without end. */
const MAX_PARTS = 1_000

/** Follows the events of one daemon. */
export class SpanBuilder {
  #open: OpenRound | null = null
  #waitingSince: number | null = null

  /** Takes in one event at `at` and answers the root spans that it ends. */
  take(event: DaemonEvent, at: number): SpanRecord[] {
    switch (event.type) {
      case 'state':
        return this.#state(event.state, event.reason, at)
      case 'step':
        this.#open ??= beginRound(at - event.stats.seconds.total * 1_000)
        this.#open.round = event.round
        this.#add(stepSpan(event.stats, at))
        return []
      case 'delta':
        this.#add(
          leaf('write delta', this.#open?.mark ?? at, at, {
            'gym.round': event.round,
            'gym.bytes': event.bytes,
          }),
        )
        return []
      case 'round':
        return [this.#commit(event.round, at)]
      case 'view': {
        const start = this.#waitingSince ?? at
        this.#waitingSince = null
        return [
          leaf('view change', start, at, { 'gym.epoch': event.epoch, 'gym.members': event.members.length }),
        ]
      }
      case 'error':
        this.#waitingSince ??= at
        if (this.#open !== null && this.#open.notes.length < MAX_PARTS)
          this.#open.notes.push({ at, name: event.code, attributes: { 'gym.message': event.message } })
        return []
      case 'verdict':
      case 'rollout':
        return []
    }
  }

  #state(state: Extract<DaemonEvent, { type: 'state' }>['state'], reason: string, at: number): SpanRecord[] {
    switch (state) {
      case 'training': {
        this.#waitingSince = null
        const ended = this.#abandon('the ring went on without it', at)
        this.#open = beginRound(at)
        return ended
      }
      case 'reducing':
        if (this.#open !== null) this.#open.reducingAt = at
        return []
      case 'waiting_for_peers':
      case 'syncing':
        this.#waitingSince ??= at
        return []
      case 'paused':
      case 'stopping':
      case 'failed':
        return this.#abandon(reason, at)
      case 'starting':
      case 'validating':
        return []
    }
  }

  /** Ends the open round without a commit. */
  #abandon(failure: string, at: number): SpanRecord[] {
    const open = this.#open
    this.#open = null
    if (open === null || open.children.length === 0) return []
    const attributes: SpanRecord['attributes'] = open.round === null ? {} : { 'gym.round': open.round }
    return [
      { ...leaf('round', open.start, at, attributes), failure, notes: open.notes, children: open.children },
    ]
  }

  #commit(status: RoundStatus, at: number): SpanRecord {
    const open = this.#open ?? beginRound(at - status.duration_ms)
    this.#open = null
    const reduceStart = Math.max(open.start, open.reducingAt ?? at - status.duration_ms)
    const reduceEnd = Math.min(at, reduceStart + status.duration_ms)
    const children = [
      ...open.children,
      leaf('all-reduce', reduceStart, reduceEnd, {
        'gym.members': status.contributors.length,
        'gym.attempts': status.attempts,
        'gym.bytes_sent': status.bytes_sent,
        'gym.bytes_received': status.bytes_received,
      }),
      leaf('commit', reduceEnd, at, { 'gym.adapter_sha3_256': status.adapter_sha3_256 }),
    ]
    const attributes = { 'gym.round': status.round, 'gym.epoch': status.epoch }
    return { ...leaf('round', open.start, at, attributes), notes: open.notes, children }
  }

  #add(span: SpanRecord): void {
    if (this.#open === null || this.#open.children.length >= MAX_PARTS) return
    this.#open.children.push(span)
    this.#open.mark = span.end
  }
}

function beginRound(start: number): OpenRound {
  return { round: null, start, mark: start, reducingAt: null, notes: [], children: [] }
}

/** A step that ended at `end`, with its phases one after the other as the trainer runs them. */
function stepSpan(stats: StepStats, end: number): SpanRecord {
  const start = end - stats.seconds.total * 1_000
  const children: SpanRecord[] = []
  let at = start
  for (const [name, seconds] of [
    ['rollout', stats.seconds.rollout],
    ['reward', stats.seconds.reward],
    ['forward and backward', stats.seconds.forwardBackward],
    ['optimizer', stats.seconds.optimizer],
  ] as const) {
    const next = Math.min(end, at + seconds * 1_000)
    children.push(leaf(name, at, next, {}))
    at = next
  }
  const attributes = {
    'gym.step': stats.step,
    'gym.reward_mean': stats.rewardMean,
    'gym.completions': stats.completions,
    'gym.generated_tokens': stats.generatedTokens,
  }
  return { ...leaf('step', start, end, attributes), children }
}

function leaf(name: string, start: number, end: number, attributes: SpanRecord['attributes']): SpanRecord {
  return { name, start, end, attributes, failure: null, notes: [], children: [] }
}
