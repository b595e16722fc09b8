/**
 * Does what the view machine wants done: hands messages to the mesh, opens and closes the links of a view, runs rounds
 * and hands out their results. It decides nothing.
 */
import { RingError } from './errors.ts'
import type { LinkDialer } from './link/view-links.ts'
import { ViewLinks } from './link/view-links.ts'
import type { RingEmitter } from './ring-emitter.ts'
import type { RoundRunner } from './round/runner.ts'
import type { RingLogger, View } from './types.ts'
import type { Turn, ViewMessage, ViewValue } from './view/messages.ts'
import type { Effect } from './view/state.ts'

/** What effects reach: the parts of the node they act on. */
export interface EffectTargets {
  readonly peerId: string
  readonly logger: RingLogger
  readonly emitter: RingEmitter
  readonly runner: RoundRunner
  readonly dial: LinkDialer
  readonly send: (to: string, message: ViewMessage) => void
  /** counts and reports an error of a peer */
  readonly count: (error: RingError) => void
}

/** Carries out effects, one after another; keeps the view in force and its links. */
export class EffectRunner {
  readonly #t: EffectTargets
  readonly counts = { committed: 0, abandoned: 0, views: 0 }
  #view: View | null = null
  #links: ViewLinks | null = null

  constructor(targets: EffectTargets) {
    this.#t = targets
  }

  /** The view that this process is a member of, else null. */
  get view(): View | null {
    return this.#view
  }

  /** The links of the view; null alone or outside one. */
  get links(): ViewLinks | null {
    return this.#links
  }

  /** One effect; what is to be persisted has been. */
  run(effect: Exclude<Effect, { do: 'persist' }>): void {
    switch (effect.do) {
      case 'send':
        this.#t.send(effect.to, effect.message)
        break
      case 'view':
        this.#onView(effect.value, effect.participant)
        break
      case 'start-round':
        this.#onStartRound(effect.turns)
        break
      case 'abort-round': {
        const reason = new RingError(effect.code, effect.reason)
        this.roundFailed(reason)
        this.#t.runner.abort(reason)
        if (effect.code === 'HASH_MISMATCH') this.#t.count(reason)
        break
      }
      case 'commit':
        this.#onCommit(effect.round, effect.hash)
        break
      case 'reject':
        this.#t.runner.reject(new RingError(effect.code, effect.reason))
        break
      case 'log':
        this.#t.logger[effect.level](effect.fields, effect.message)
        break
    }
  }

  /** A round broke off: its links hold half a round and are dropped. */
  roundFailed(error: RingError): void {
    this.counts.abandoned += 1
    this.#links?.reset(error)
  }

  /** Ends the links; the view is forgotten with `leave`. */
  close(reason: RingError): void {
    this.#links?.close(reason)
  }

  /** This node is in no view any more. */
  leave(): void {
    this.#view = null
  }

  #onView(value: ViewValue | null, participant: boolean): void {
    this.#links?.close(new RingError('VIEW_CHANGED', 'the view these links belong to is over'))
    this.#links = null
    this.#view = null
    if (value === null || !participant) return
    const view: View = { ringId: value.ringId, epoch: value.epoch, members: value.members.map((m) => m.peer) }
    this.#view = view
    this.counts.views += 1
    if (view.members.length > 1) {
      this.#links = new ViewLinks(view, this.#t.peerId, this.#t.dial)
      // Opened ahead of the round, to have the handshake behind us; a failure shows again when the round asks.
      this.#links.to().catch(() => undefined)
    }
    const { epoch, members, start } = value
    this.#t.logger.info({ epoch, members: members.length, start: start.round }, 'new view')
    this.#t.emitter.emit('view', view)
  }

  #onStartRound(turns: readonly Turn[]): void {
    const view = this.#view
    if (view === null) return
    void this.#t.runner.start(view, this.#links, turns, view.members.indexOf(this.#t.peerId))
  }

  #onCommit(round: number, hash: string): void {
    const result = this.#t.runner.commit(round, hash)
    if (result === null) return
    this.counts.committed += 1
    const { durationMs, attempts } = result
    const members = result.contributors.length
    const { epoch } = result.view
    this.#t.logger.info({ round, epoch, members, attempts, durationMs }, 'round committed')
    this.#t.emitter.emit('round', { round, durationMs, members, attempts })
  }
}
