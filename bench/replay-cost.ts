/**
 * What a replay costs, as a share of the work it checks, how closely it agrees, and how large its trace is.
 * usage: node --conditions=gym-source bench/replay-cost.ts [--model DIR --data FILE] [--threads N] [--lengths 8,64,128]
 * Prints one JSON line a setting. docs/VALIDATION.md has the table made from it.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createTrainer, TraceEncoder } from '@gym-node/gspo'
import type { GSPOConfig, StepTrace, TraceHeader } from '@gym-node/gspo'

const demo = join(import.meta.dirname, '../packages/node/demo/arith-model')
const { values } = parseArgs({
  options: {
    model: { type: 'string', default: demo },
    data: { type: 'string', default: join(demo, 'train.jsonl') },
    threads: { type: 'string', default: '1' },
    lengths: { type: 'string', default: '8,32,64,96' },
    rows: { type: 'string', default: '64' },
  },
})

/** Rewards with variance whatever the text, so that every step has gradients to compute. */
const rewards: GSPOConfig['rewards'] = [{ name: 'regex', pattern: '[0-4]\\D*$' }]

/** Only frames the steps; its own bytes are not counted. */
const header: TraceHeader = {
  version: 2,
  job: 'bench',
  workerId: 'bench',
  round: 1,
  stateBefore: '',
  model: { id: '', sha256: '' },
  dataset: { sha256: '', size: 1 },
  engine: '',
  versions: {},
  config: { model: values.model, dataset: values.data },
}

for (const length of values.lengths.split(',').map(Number)) {
  const config: GSPOConfig = {
    model: values.model,
    dataset: values.data,
    threads: Number(values.threads),
    max_completion_length: length,
    // The demo model ends after a few tokens; heat makes it ramble up to the limit.
    temperature: length <= 8 ? 1 : 4,
    group_size: 8,
    prompts_per_step: Number(values.rows) / 8,
    rewards,
    learning_rate: 1e-5,
  }
  const trainer = await createTrainer(config)
  const other = await createTrainer({ ...config, micro_batch_tokens: 512, threads: 2 })
  try {
    await trainer.replay([(await trainer.step()).trace]) // warms every session up
    const base = await trainer.exportState()
    const before = await trainer.readAdapter()
    const traces: StepTrace[] = []
    let [rollout, total] = [0, 0]
    const work = await timed(async () => {
      for (let step = 0; step < 3; step += 1) {
        const { trace, stats } = await trainer.step()
        traces.push(trace)
        rollout += stats.seconds.rollout
        total += stats.seconds.total
      }
    })
    const worked = await trainer.readAdapter()
    await trainer.importState(base)
    const replay = await timed(() => trainer.replay(traces, audited(traces)))
    const isIdentical = Buffer.compare(bytesOf(await trainer.readAdapter()), bytesOf(worked)) === 0
    await other.importState(base)
    const elsewhere = await other.replay(traces)
    const again = await other.readAdapter()
    let [error, norm] = [0, 0]
    for (const [i, value] of worked.entries()) {
      error += ((again[i] ?? 0) - value) ** 2
      norm += (value - (before[i] ?? 0)) ** 2
    }
    let [tokens, worst, sum] = [0, 0, 0]
    for (const [s, trace] of traces.entries()) {
      for (const [g, group] of trace.groups.entries()) {
        for (const [c, { logps }] of group.completions.entries()) {
          tokens += logps.length
          for (const [t, logp] of logps.entries()) {
            const difference = Math.abs(logp - (elsewhere[s]?.groups[g]?.completions[c]?.logps[t] ?? NaN))
            worst = Math.max(worst, difference)
            sum += difference
          }
        }
      }
    }
    const traceBytes = traces.reduce((all, trace) => all + new TraceEncoder(header).step(trace).length, 0)
    console.log(
      JSON.stringify({
        max_completion_length: length,
        mean_completion_tokens: Math.round((10 * tokens) / (3 * Number(values.rows))) / 10,
        work_cpu_seconds: round(work),
        rollout_share: round(rollout / total),
        replay_cpu_seconds: round(replay),
        replay_share: round(replay / work),
        bit_identical_here: isIdentical,
        other_batching_relative_error: Number(Math.sqrt(error / norm).toPrecision(3)),
        logp_difference_max: Number(worst.toPrecision(3)),
        logp_difference_mean: Number((sum / tokens).toPrecision(3)),
        trace_bytes_per_token: round(traceBytes / tokens),
      }),
    )
  } finally {
    await trainer.close()
    await other.close()
  }
}

/** As a replay with the default tolerances asks: an eighth of all groups recomputed, a sixteenth sampled again. */
function audited(traces: readonly StepTrace[]): { recompute: number[][]; resample: number[][] } {
  const all = traces.flatMap(({ groups }, step) => groups.map((_, group) => ({ step, group })))
  const first = (count: number): number[][] =>
    traces.map((_, at) => all.slice(0, count).flatMap(({ step, group }) => (step === at ? [group] : [])))
  return {
    recompute: first(Math.max(2, Math.round(all.length / 8))),
    resample: first(Math.max(1, Math.round(all.length / 16))),
  }
}

/** Processor seconds of this process, so that other load on the machine does not count. */
async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(started)
  return (user + system) / 1e6
}

function bytesOf(vector: Float32Array): Uint8Array {
  return new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength)
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000
}
