/** The Prometheus registry of one daemon: gauges from the status document at each scrape, counters from events. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { StepStats } from '@gym-node/gspo'
import { DAEMON_STATES, REACHABILITIES } from '../status.ts'
import type { DaemonEvent, DaemonStatus, MemberStatus, NetworkStatus, RoundStatus } from '../status.ts'
import { ERROR_CODE_LABELS } from './defaults.ts'
import { METRICS, type MetricKey, type MetricSpec } from './metrics-catalogue.ts'

const MEMBER_STATES: readonly MemberStatus['state'][] = ['self', 'alive', 'suspect', 'lost']

/** Parts of the observatory in which something can go wrong; the label of `gym_node_observe_faults_total`. */
const OBSERVE_PARTS = ['history', 'stream', 'http', 'metrics', 'status'] as const

/** See OBSERVE_PARTS. */
export type ObservePart = (typeof OBSERVE_PARTS)[number]

/**
 * Labelled counters that are there from the beginning, at zero: Prometheus' `increase` does not see a series appear, so
 * an alert on the first delta that does not verify would never fire.
 */
const FROM_ZERO: readonly (readonly [MetricKey, string, readonly string[]])[] = [
  ['deltas', 'verified', ['true', 'false']],
  ['verdicts', 'result', ['accepted', 'rejected', 'unavailable']],
  ['observeFaults', 'part', OBSERVE_PARTS],
  ['errors', 'code', ['OTHER']],
]

/** Counts what happens and renders the scrape. */
export class Metrics {
  readonly registry = new Registry()
  readonly #gauges = new Map<string, Gauge>()
  readonly #counters = new Map<string, Counter>()
  readonly #histograms = new Map<string, Histogram>()
  readonly #codes = new Set<string>()

  constructor() {
    for (const spec of Object.values(METRICS)) this.#register(spec)
    for (const [key, label, values] of FROM_ZERO)
      for (const value of values) this.count(key, 0, { [label]: value })
    // The names process_* and nodejs_* are Prometheus' own convention; dashboards everywhere expect them as they are.
    collectDefaultMetrics({ register: this.registry })
  }

  /** Counts an event. */
  observe(event: DaemonEvent): void {
    switch (event.type) {
      case 'step':
        this.#observeStep(event.stats)
        return
      case 'round':
        this.#observeRound(event.round)
        return
      case 'delta':
        this.count('deltas', 1, { verified: String(event.verified) })
        this.count('deltaBytes', event.bytes)
        this.set('deltaError', event.relative_error)
        return
      case 'verdict':
        if (!event.isOld) this.count('verdicts', 1, { result: event.verdict.result })
        return
      case 'error':
        this.count('errors', 1, { code: this.#codeLabel(event.code) })
        return
      case 'state':
      case 'view':
      case 'rollout':
        return
    }
  }

  /** Adds to a counter. */
  count(key: MetricKey, amount: number, labels: Record<string, string> = {}): void {
    this.#counters.get(METRICS[key].name)?.inc(labels, amount)
  }

  /** Sets a gauge. Values that are not finite are left out: a scrape must stay readable. */
  set(key: MetricKey, value: number, labels: Record<string, string> = {}): void {
    if (Number.isFinite(value)) this.#gauges.get(METRICS[key].name)?.set(labels, value)
  }

  /** The text of a scrape, with gauges taken from `status`. */
  async render(status: DaemonStatus): Promise<string> {
    this.#refresh(status)
    return this.registry.metrics()
  }

  #register(spec: MetricSpec): void {
    const common = {
      name: spec.name,
      help: spec.help,
      labelNames: [...spec.labels],
      registers: [this.registry],
    }
    switch (spec.type) {
      case 'gauge':
        this.#gauges.set(spec.name, new Gauge(common))
        return
      case 'counter':
        this.#counters.set(spec.name, new Counter(common))
        return
      case 'histogram':
        this.#histograms.set(spec.name, new Histogram({ ...common, buckets: [...(spec.buckets ?? [])] }))
        return
    }
  }

  #observeStep(stats: StepStats): void {
    this.count('steps', 1)
    this.count('promptTokens', stats.promptTokens)
    this.count('generatedTokens', stats.generatedTokens)
    this.count('groups', stats.groups)
    this.count('completions', stats.completions)
    this.count('unscorable', stats.unscorable)
    const phases = this.#histograms.get(METRICS.stepSeconds.name)
    phases?.observe({ phase: 'rollout' }, stats.seconds.rollout)
    phases?.observe({ phase: 'reward' }, stats.seconds.reward)
    phases?.observe({ phase: 'forward_backward' }, stats.seconds.forwardBackward)
    phases?.observe({ phase: 'optimizer' }, stats.seconds.optimizer)
    phases?.observe({ phase: 'total' }, stats.seconds.total)
  }

  #observeRound(round: RoundStatus): void {
    this.count('rounds', 1)
    this.count('roundAttempts', round.attempts)
    this.#histograms.get(METRICS.roundSeconds.name)?.observe(round.duration_ms / 1000)
  }

  #refresh(status: DaemonStatus): void {
    this.#gauges.get(METRICS.info.name)?.reset()
    this.set('info', 1, { version: status.version, role: status.role, engine: status.engine ?? 'none' })
    for (const state of DAEMON_STATES) this.set('state', state === status.state ? 1 : 0, { state })
    this.set('progressAge', status.seconds_since_progress ?? 0)
    this.set('startTime', Date.parse(status.started_at) / 1000)
    this.set('stepIndex', status.step)
    this.set('roundIndex', status.round)
    if (status.model !== null) this.set('modelParameters', status.model.parameters)
    for (const state of MEMBER_STATES) {
      this.set('members', status.ring.members.filter((member) => member.state === state).length, { state })
    }
    this.set('epoch', status.ring.epoch ?? 0)
    this.#mirror('sentBytes', status.ring.bytes_sent)
    this.#mirror('receivedBytes', status.ring.bytes_received)
    this.#mirror('viewChanges', status.ring.view_changes)
    this.#mirror('framesRejected', status.ring.frames_rejected)
    this.#mirrorEach('rejected', 'code', status.ring.rejected)
    if (status.ring.network !== null) this.#refreshNetwork(status.ring.network)
    if (status.last_step !== null) this.#refreshStep(status.last_step)
  }

  #refreshStep(stats: StepStats): void {
    this.set('reward', stats.rewardMean)
    this.set('rewardStd', stats.rewardStd)
    this.set('loss', stats.loss)
    this.set('clipRatio', stats.clipRatioLow, { side: 'low' })
    this.set('clipRatio', stats.clipRatioHigh, { side: 'high' })
    this.set('importanceRatio', stats.ratioMean)
    this.set('truncated', stats.truncatedFraction)
    for (const { name, mean } of stats.rewardMeans) this.set('rewardComponent', mean, { reward: name })
    this.set('kl', stats.kl)
    this.set('entropy', stats.entropy)
    this.set('gradientNorm', stats.gradNorm)
    this.set('learningRate', stats.learningRate)
    this.set('zeroVariance', stats.zeroVarianceFraction)
    this.set('completionLength', stats.completionLengthMean)
    this.set('throughput', stats.tokensPerSecond)
    this.set('peakMemory', stats.peakMemoryBytes)
  }

  #refreshNetwork(network: NetworkStatus): void {
    for (const state of REACHABILITIES)
      this.set('reachability', state === network.reachability ? 1 : 0, { state })
    this.set('reservations', network.reservations)
    this.set('connections', network.connections - network.relayed_connections, { path: 'direct' })
    this.set('connections', network.relayed_connections, { path: 'relay' })
    this.#mirror('holePunches', network.hole_punches)
    this.#mirrorEach('peersFound', 'source', network.found)
    this.#mirror('dials', network.dials)
    this.#mirrorEach('dialFailures', 'reason', network.dial_failures)
    this.#mirrorEach('limitsHit', 'limit', network.limits)
  }

  /** Counters that the ring keeps by a name of its own fixed list. */
  #mirrorEach(key: MetricKey, label: string, totals: Readonly<Record<string, number>>): void {
    const counter = this.#counters.get(METRICS[key].name)
    counter?.reset()
    for (const [name, total] of Object.entries(totals)) counter?.inc({ [label]: name }, total)
  }

  /** A counter that the ring keeps itself: exported as it stands. */
  #mirror(key: MetricKey, total: number): void {
    const counter = this.#counters.get(METRICS[key].name)
    counter?.reset()
    counter?.inc(total)
  }

  #codeLabel(code: string): string {
    if (this.#codes.has(code)) return code
    if (this.#codes.size >= ERROR_CODE_LABELS || !/^[A-Z][A-Z0-9_]{0,39}$/.test(code)) return 'OTHER'
    this.#codes.add(code)
    return code
  }
}
