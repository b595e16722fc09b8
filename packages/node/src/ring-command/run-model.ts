/** What the launcher knows of its run: nodes, rounds, rewards. Fed with the daemons' messages; no I/O, no clock. */
import type { ParentMessage } from '../parent-link.ts'
import type { DaemonState, RoundStatus, VerdictStatus } from '../status.ts'

/** One daemon as the launcher sees it. `index` counts from 0. */
export interface NodeModel {
  readonly index: number
  peerId: string | null
  addresses: readonly string[]
  http: string | null
  state: DaemonState | 'gone'
  /** How it ended, when it has. */
  ending: string | null
  step: number
  loss: number | null
  reward: number | null
  tokensPerSecond: number | null
  bytesSent: number
  /** Committed rounds that this node told us about, oldest first. */
  readonly rounds: { round: number; adapterSha3: string; rewardMean: number | null }[]
  /** Rewards of the steps since the last committed round. */
  readonly openRewards: number[]
}

/** The daemon that audits the others. */
export interface ValidatorModel {
  peerId: string | null
  state: DaemonState | 'gone'
  ending: string | null
  /** Its own, oldest first. */
  readonly verdicts: VerdictStatus[]
}

/** The whole run. */
export interface RunModel {
  readonly nodes: readonly NodeModel[]
  /** Null in a run without one. */
  readonly validator: ValidatorModel | null
  readonly roundLimit: number
  epoch: number | null
  members: number
  lastRound: RoundStatus | null
  /** Mean reward of each committed round over all nodes that reported it, by round number. */
  readonly rewardByRound: Map<number, number[]>
}

/** A run before its first message. */
export function createRunModel(nodes: number, roundLimit: number, hasValidator = false): RunModel {
  return {
    nodes: Array.from({ length: nodes }, (_, index) => ({
      index,
      peerId: null,
      addresses: [],
      http: null,
      state: 'starting',
      ending: null,
      step: 0,
      loss: null,
      reward: null,
      tokensPerSecond: null,
      bytesSent: 0,
      rounds: [],
      openRewards: [],
    })),
    validator: hasValidator ? { peerId: null, state: 'starting', ending: null, verdicts: [] } : null,
    roundLimit,
    epoch: null,
    members: 0,
    lastRound: null,
    rewardByRound: new Map(),
  }
}

/** Takes in one message of node `index`. */
export function applyMessage(run: RunModel, index: number, message: ParentMessage): void {
  const node = run.nodes[index]
  if (node === undefined) return
  switch (message.type) {
    case 'listening':
      node.peerId = message.peerId
      node.addresses = message.addresses
      node.http = message.http
      return
    case 'failed':
      node.ending = `${message.code}: ${message.message}`
      return
    case 'event':
      node.bytesSent = message.bytesSent
      applyEvent(run, node, message.event)
      return
  }
}

/** Takes in one message of the validator. */
export function applyValidatorMessage({ validator }: RunModel, message: ParentMessage): void {
  if (validator === null) return
  if (message.type === 'listening') validator.peerId = message.peerId
  else if (message.type === 'failed') validator.ending = `${message.code}: ${message.message}`
  else if (message.event.type === 'state') validator.state = message.event.state
  else if (message.event.type === 'verdict' && !message.event.isOld)
    validator.verdicts.push(message.event.verdict)
}

/** What a verdict says, with the worker as its number in the run. */
export function verdictText(
  { nodes }: RunModel,
  { round, worker_id: worker, result, failed }: VerdictStatus,
): string {
  const node = nodes.find(({ peerId }) => peerId === worker)
  const who = node === undefined ? worker : `node ${node.index + 1}`
  return `round ${round} of ${who} ${result}${failed.length === 0 ? '' : ` (${failed.join(', ')})`}`
}

/** How many verdicts there are of each result. */
export function verdictCounts({ verdicts }: ValidatorModel): Record<VerdictStatus['result'], number> {
  const count = (result: VerdictStatus['result']): number =>
    verdicts.filter((verdict) => verdict.result === result).length
  return { accepted: count('accepted'), rejected: count('rejected'), unavailable: count('unavailable') }
}

/** Mean reward of each committed round, in the order of rounds. */
export function rewardCurve(run: RunModel): number[] {
  return [...run.rewardByRound.entries()].sort(([a], [b]) => a - b).map(([, rewards]) => mean(rewards))
}

/** Bytes that all nodes have sent. */
export function bytesSent(run: RunModel): number {
  return run.nodes.reduce((sum, node) => sum + node.bytesSent, 0)
}

/** Arithmetic mean; 0 of nothing. */
export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length
}

function applyEvent(
  run: RunModel,
  node: NodeModel,
  event: Extract<ParentMessage, { type: 'event' }>['event'],
): void {
  switch (event.type) {
    case 'state':
      node.state = event.state
      return
    case 'step':
      node.step = event.stats.step
      node.loss = event.stats.loss
      node.reward = event.stats.rewardMean
      node.tokensPerSecond = event.stats.tokensPerSecond
      node.openRewards.push(event.stats.rewardMean)
      return
    case 'view':
      // After the last round the nodes leave one by one; what the ring was until then is what stays shown.
      if ((run.lastRound?.round ?? 0) >= run.roundLimit) return
      run.epoch = event.epoch
      run.members = event.members.length
      return
    case 'round': {
      const { round, adapter_sha3_256: adapterSha3 } = event.round
      const rewards = node.openRewards.splice(0)
      node.rounds.push({ round, adapterSha3, rewardMean: rewards.length === 0 ? null : mean(rewards) })
      if (run.lastRound === null || round >= run.lastRound.round) run.lastRound = event.round
      if (rewards.length > 0)
        run.rewardByRound.set(round, [...(run.rewardByRound.get(round) ?? []), mean(rewards)])
      return
    }
    case 'delta':
    case 'verdict':
    case 'rollout':
    case 'error':
      return
  }
}
