/** What the launcher knows of its run: nodes, rounds, rewards. Fed with the daemons' messages; no I/O, no clock. */
import type { ParentMessage } from '../parent-link.ts'
import type { DaemonState, RoundStatus } from '../status.ts'

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

/** The whole run. */
export interface RunModel {
  readonly nodes: readonly NodeModel[]
  readonly roundLimit: number
  epoch: number | null
  members: number
  lastRound: RoundStatus | null
  /** Mean reward of each committed round over all nodes that reported it, by round number. */
  readonly rewardByRound: Map<number, number[]>
}

/** A run before its first message. */
export function createRunModel(nodes: number, roundLimit: number): RunModel {
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
