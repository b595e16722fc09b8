/**
 * A worker on ONNX Runtime's CPU engine, validated by other engines and settings: honest rounds pass, cheats fail, and
 * the distances that the tolerances are made from are printed. No part of `npm test`, for its time:
 *   npm run test:replay-engines
 * With a Vulkan driver also WebGPU; without a GPU, SwiftShader from a Chromium package does:
 *   LD_LIBRARY_PATH=/usr/lib/chromium VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json npm run test:replay-engines
 */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { createTrainer, GspoError, type GSPOConfig, type StepTrace } from '@gym-node/gspo'
import {
  filesOf,
  floatBytes,
  honest,
  jobConfig,
  TrainerPool,
  workRound,
  type Forgery,
  type Round,
} from '../../packages/node/test/validate-fixtures.ts'
import { replayDelta } from '../../packages/node/src/validate/replay.ts'
import type { ReplayCheckName, ReplayVerdict } from '../../packages/node/src/validate/replay-types.ts'
import { workerSeed } from '../../packages/node/src/validate/worker-seed.ts'

const pool = new TrainerPool()
after(() => pool.close())

/** What the worker runs. */
interface Job {
  readonly name: string
  readonly change: Partial<GSPOConfig>
}

/** What a validator runs instead of the worker's one thread on the CPU. */
const VALIDATORS: readonly { readonly name: string; readonly change: Partial<GSPOConfig> }[] = [
  { name: 'the same', change: {} },
  { name: 'two threads', change: { threads: 2 } },
  { name: 'half the memory', change: { memory_limit_mb: 640 } },
  { name: 'TensorFlow.js', change: { engine: 'tfjs' } },
  { name: 'WebGPU', change: { engine: 'onnx-webgpu' } },
]

const JOBS: readonly Job[] = [
  { name: 'float32', change: {} },
  { name: '4-bit weights', change: { use_4bit: true } },
]

/** Why a configuration cannot run here; undefined when it can. */
async function reasonAgainst(config: GSPOConfig): Promise<string | undefined> {
  try {
    await (await createTrainer(config)).close()
    return undefined
  } catch (error) {
    const codes = ['ENGINE_UNAVAILABLE', 'OUT_OF_MEMORY', 'BAD_OPTION', 'BAD_CONFIG']
    if (error instanceof GspoError && codes.includes(error.code)) return error.message
    throw error
  }
}

function failed(verdict: ReplayVerdict): ReplayCheckName[] {
  return verdict.checks.filter(({ ok }) => ok === false).map(({ name }) => name)
}

function mapCompletions(
  traces: readonly StepTrace[],
  change: (
    completion: StepTrace['groups'][number]['completions'][number],
    place: number,
  ) => StepTrace['groups'][number]['completions'][number],
): StepTrace[] {
  return traces.map((trace) => ({
    ...trace,
    groups: trace.groups.map((group) => ({ ...group, completions: group.completions.map(change) })),
  }))
}

for (const job of JOBS) {
  const config = jobConfig({ prompts_per_step: 4, ...job.change })
  const trainer = await pool.take(config)
  await trainer.step() // the adapter's B is not zero any more
  const round = await workRound(trainer, { identity: honest, round: 1, config, steps: 4 })
  const hot = await pool.take({ ...config, temperature: 1.5 })
  await hot.importState(round.base)
  const foreign = await workRound(hot, { identity: honest, round: 1, config, steps: 4 })

  for (const validator of VALIDATORS) {
    const other = { ...config, ...validator.change }
    const skip = await reasonAgainst(other)
    const replay = async (from: Round, forgery: Forgery = {}): Promise<ReplayVerdict> => {
      const files = await filesOf(from, forgery)
      return replayDelta({
        ...files,
        residual: { after: floatBytes(files.lost) },
        config: other,
        expected: { job: 'arith', round: 1, workerId: honest.peerId, seed: workerSeed(honest.peerId) },
        tolerance: { recompute_share: 1, resample_share: 1 },
        openTrainer: pool.lend,
      })
    }
    describe(`${job.name}, validated by ${validator.name}`, { skip: skip ?? false }, () => {
      it('accepts an honest round, and one in each lossy dtype', async (t) => {
        const verdict = await replay(round)
        assert.deepEqual(failed(verdict), [], JSON.stringify(verdict.checks))
        const { isIdentical, relativeError } = verdict.comparison ?? assert.fail()
        const said = (name: ReplayCheckName): string =>
          verdict.checks.find((check) => check.name === name)?.detail ?? ''
        t.diagnostic(`delta ${isIdentical ? 'bit-identical' : `off by ${relativeError.toExponential(1)}`}`)
        for (const name of ['tokens', 'sampling', 'resampling'] as const)
          t.diagnostic(`${name}: ${said(name)}`)
        for (const dtype of ['bf16', 'i8', 'bitdelta'] as const) {
          const lossy = await replay(round, { dtype, feedback: { before: null } })
          assert.deepEqual(failed(lossy), [], dtype)
          t.diagnostic(`${dtype} off by ${(lossy.comparison?.relativeError ?? NaN).toExponential(1)}`)
        }
      })

      it('rejects a delta that is scaled or noised, in every dtype', async () => {
        const { difference } = round
        const size = Math.sqrt(difference.reduce((sum, x) => sum + x * x, 0) / difference.length)
        const noisy = difference.map((x, i) => x + 0.05 * Math.SQRT2 * size * Math.sin(12.9898 * i))
        for (const instead of [difference.map((x) => 1.05 * x), noisy]) {
          assert.ok(failed(await replay({ ...round, difference: instead })).includes('adapter'))
          for (const dtype of ['bf16', 'i8', 'bitdelta'] as const) {
            const verdict = await replay(round, { dtype, feedback: { before: null, instead } })
            assert.ok(failed(verdict).includes('adapter'), dtype)
          }
        }
      })

      it('rejects edited rewards, rollouts of another distribution, and logprobs shifted to hide it', async () => {
        const paid = mapCompletions(round.traces, (completion, place) =>
          place === 0 ? { ...completion, reward: 1, components: [1] } : completion,
        )
        assert.ok(failed(await replay({ ...round, traces: paid })).includes('rewards'))
        const hotter = failed(await replay(foreign))
        assert.ok(hotter.includes('tokens') && hotter.includes('resampling'), hotter.join())
        const shifted = mapCompletions(round.traces, (completion) => ({
          ...completion,
          logps: completion.logps.map((logp) => Math.min(0, logp - 0.1)),
        }))
        assert.ok(failed(await replay({ ...round, traces: shifted })).includes('tokens'))
      })

      it('rejects a round of which a step was left out', async () => {
        const short = { ...round, traces: round.traces.slice(0, 3), stats: round.stats.slice(0, 3) }
        assert.ok(failed(await replay(short)).includes('adapter'))
      })
    })
  }
}
