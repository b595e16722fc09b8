/** What a run came to: the document `summary.json` and the words at the end. Pure. */
import { formatPercent } from '../cli/format.ts'
import { VERSION } from '../version.ts'
import type { Accuracy, Evaluation } from './evaluation.ts'
import type { RingOrder } from './options.ts'
import { rewardCurve, verdictCounts, type NodeModel, type RunModel } from './run-model.ts'

/** The document. Hashes are hex SHA3-256 of the adapter's float32 bytes. */
export interface RingSummary {
  readonly schema: 1
  readonly version: string
  readonly model: string
  readonly dataset: string
  readonly test_dataset: string | null
  readonly seed: number
  readonly nodes: number
  readonly rounds: number
  readonly rounds_asked: number
  readonly seconds: number
  readonly interrupted: boolean
  /** True when every node that reported a round reported the same adapter for it. */
  readonly adapters_agree: boolean
  readonly before: EvaluationPair | null
  readonly after: EvaluationPair | null
  /** Mean training reward of the first and the last committed round. */
  readonly reward_first_round: number | null
  readonly reward_last_round: number | null
  readonly adapter_dir: string | null
  readonly adapter_sha3_256: string | null
  /** What the validator found; null in a run without one. */
  readonly audits: {
    readonly peer_id: string | null
    readonly accepted: number
    readonly rejected: number
    readonly unavailable: number
    readonly ending: string
  } | null
  readonly per_node: readonly {
    readonly node: number
    readonly peer_id: string | null
    readonly state_dir: string
    readonly ending: string
    readonly bytes_sent: number
    readonly rounds: readonly {
      readonly round: number
      readonly adapter_sha3_256: string
      readonly reward_mean: number | null
    }[]
  }[]
}

interface EvaluationPair {
  readonly sampled: EvaluationDocument
  readonly greedy: EvaluationDocument
}

interface EvaluationDocument {
  readonly accuracy: number
  readonly reward_mean: number
  readonly samples: number
}

/** What the launcher knows at the end besides the run. */
export interface SummaryFacts {
  readonly order: RingOrder
  readonly seconds: number
  readonly interrupted: boolean
  readonly before: Accuracy | null
  readonly after: Accuracy | null
  readonly adapterDir: string | null
  readonly stateDirs: readonly string[]
}

/** Makes the document. */
export function summarize(run: RunModel, facts: SummaryFacts): RingSummary {
  const { order } = facts
  const rewards = rewardCurve(run)
  const rounds = Math.max(0, ...run.nodes.flatMap((node) => node.rounds.map(({ round }) => round)))
  return {
    schema: 1,
    version: VERSION,
    model: order.model,
    dataset: order.dataset,
    test_dataset: order.testDataset,
    seed: order.seed,
    nodes: order.nodes,
    rounds,
    rounds_asked: order.rounds,
    seconds: facts.seconds,
    interrupted: facts.interrupted,
    adapters_agree: adaptersAgree(run.nodes),
    before: pair(facts.before),
    after: pair(facts.after),
    reward_first_round: rewards[0] ?? null,
    reward_last_round: rewards.at(-1) ?? null,
    adapter_dir: facts.adapterDir,
    adapter_sha3_256:
      run.nodes.flatMap((node) => node.rounds).find(({ round }) => round === rounds)?.adapterSha3 ?? null,
    audits:
      run.validator === null
        ? null
        : {
            peer_id: run.validator.peerId,
            ...verdictCounts(run.validator),
            ending: run.validator.ending ?? 'done',
          },
    per_node: run.nodes.map((node) => ({
      node: node.index,
      peer_id: node.peerId,
      state_dir: facts.stateDirs[node.index] ?? '',
      ending: node.ending ?? 'done',
      bytes_sent: node.bytesSent,
      rounds: node.rounds.map(({ round, adapterSha3, rewardMean }) => ({
        round,
        adapter_sha3_256: adapterSha3,
        reward_mean: rewardMean,
      })),
    })),
  }
}

/** The words at the end. */
export function summaryText(summary: RingSummary, summaryFile: string): string {
  const lines = [
    '',
    ` ${summary.rounds} rounds in ${summary.seconds.toFixed(0)} s${summary.interrupted ? ', interrupted' : ''}`,
  ]
  if (summary.before !== null && summary.after !== null) {
    lines.push('', ' accuracy on held-out prompts    before     after')
    for (const way of ['sampled', 'greedy'] as const) {
      const before = formatPercent(summary.before[way].accuracy).padStart(8)
      const after = formatPercent(summary.after[way].accuracy).padStart(8)
      lines.push(`   ${way.padEnd(28)} ${before}  ${after}`)
    }
  } else if (summary.reward_first_round !== null && summary.reward_last_round !== null) {
    lines.push(
      ` mean training reward: ${summary.reward_first_round.toFixed(3)} in the first round, ${summary.reward_last_round.toFixed(3)} in the last`,
    )
  }
  lines.push('')
  if (summary.adapter_dir !== null) lines.push(` adapter   ${summary.adapter_dir} (PEFT)`)
  if (summary.rounds > 0)
    lines.push(
      ` agreement ${summary.adapters_agree ? 'every node has the same adapter in every round' : 'THE ADAPTERS DIFFER, see the summary'}`,
    )
  if (summary.audits !== null) {
    const { accepted, rejected, unavailable, ending } = summary.audits
    lines.push(
      ` audits    ${accepted} accepted, ${rejected} rejected, ${unavailable} unavailable${ending === 'done' ? '' : `; the validator: ${ending}`}`,
    )
  }
  for (const node of summary.per_node)
    if (node.ending !== 'done')
      lines.push(` node ${node.node + 1}    ${node.ending}, log ${node.state_dir}.log`)
  lines.push(` summary   ${summaryFile}`, '')
  return `${lines.join('\n')}\n`
}

function pair(accuracy: Accuracy | null): EvaluationPair | null {
  return accuracy === null ? null : { sampled: document(accuracy.sampled), greedy: document(accuracy.greedy) }
}

function document(evaluation: Evaluation): EvaluationDocument {
  return { accuracy: evaluation.accuracy, reward_mean: evaluation.rewardMean, samples: evaluation.samples }
}

function adaptersAgree(nodes: readonly NodeModel[]): boolean {
  const byRound = new Map<number, string>()
  for (const { round, adapterSha3 } of nodes.flatMap((node) => node.rounds)) {
    if ((byRound.get(round) ?? adapterSha3) !== adapterSha3) return false
    byRound.set(round, adapterSha3)
  }
  return true
}
