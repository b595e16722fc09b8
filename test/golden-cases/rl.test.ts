/** Training against TRL, PEFT and torch: log-probabilities, losses, gradients, five AdamW steps, a whole TRL run. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { adamwInit, adamwUpdate } from '../../packages/gspo/src/optim/adamw.ts'
import { loadPolicy, type LossBatch, type LossConfig, type Policy } from '../../packages/gspo/src/policy.ts'
import { loraTargetOf } from '../../packages/gspo/src/lora.ts'
import {
  assertClose,
  findCases,
  GOLDEN_DIR,
  HEAD_PARTS,
  maxDifference,
  onEngines,
  readJson,
  Tensors,
} from './golden.ts'
import { batchOf, flatten, isHybrid, sequences } from './model-cases.ts'

interface AdamwGolden {
  lr: number
  betas: [number, number]
  eps: number
  weight_decay: number
  loss_before_update: number[]
}

interface RlCase {
  config: Omit<LossConfig, 'router_aux_loss_coef'> & {
    router_aux_loss_coef?: number
    old_logps: string
    scale_rewards?: string
  }
  loss: number
  grad_max_abs: number
  tensors_without_grad: string[]
  trl_metrics?: Record<string, number>
  adamw5?: AdamwGolden
  adamw5_smalllr?: AdamwGolden
}

interface Manifest {
  base_model: string
  lora: { r: number; lora_alpha: number; target_modules: string[]; scaling: number }
  cases: Record<string, RlCase>
  end_to_end_trl_train?: Record<
    string,
    {
      config: Omit<LossConfig, 'temperature' | 'max_completion_length'> & { lr: number; max_steps: number }
      loss_per_step: number[]
    }
  >
}

/** golden/README.md: losses 2e-6 absolute, gradients 1e-4 of the case's largest. */
const LOSS_TOLERANCE = 2e-6
const GRADIENT_TOLERANCE = 1e-4

for (const { name, engine, skip } of await onEngines(findCases('rl', 'manifest.json', 2)))
  describe(`training ${name} on ${engine}`, { skip }, () => {
    const folder = path.join('rl', name)
    const manifest = readJson<Manifest>(folder, 'manifest.json')
    const modelDir = path.resolve(GOLDEN_DIR, folder, manifest.base_model)
    const tensors = new Tensors(folder, 'batch.safetensors')
    const gradientsFile = new Tensors(folder, 'grads.safetensors')
    const logitTolerance = isHybrid(modelDir) ? 1e-3 : 1e-4
    let policy: Policy
    let start: Float32Array

    before(async () => {
      const { r, lora_alpha: alpha, target_modules: modules, scaling } = manifest.lora
      const targets = modules.flatMap((name) => loraTargetOf(name) ?? [])
      assert.equal(targets.length, modules.length, modules.join())
      const useRslora = Math.abs(scaling - alpha / r) > 1e-6
      policy = await loadPolicy({
        modelDir,
        lora: { rank: r, alpha, targets, useRslora },
        engine,
        threads: 1,
        ...(HEAD_PARTS === undefined ? {} : { headParts: HEAD_PARTS }),
      })
      start = flatten(policy.adapterLayout, new Tensors(folder, 'adapter', 'adapter_model.safetensors'))
    })
    after(() => policy.close())

    const [rows = 0, completionLength = 0] = tensors.shape('completion_ids')
    const batchFor = ({ config }: Pick<RlCase, 'config'>): LossBatch => ({
      rows,
      promptLength: tensors.shape('prompt_ids')[1] ?? 0,
      completionLength,
      promptIds: tensors.ints('prompt_ids'),
      promptMask: tensors.ints('prompt_mask'),
      completionIds: tensors.ints('completion_ids'),
      completionMask: tensors.ints('completion_mask'),
      advantages: tensors.floats(
        config.scale_rewards === undefined || config.scale_rewards === 'group'
          ? 'advantages'
          : `advantages_scale_${config.scale_rewards}`,
      ),
      oldLogps: tensors.has(config.old_logps) ? tensors.floats(config.old_logps) : null,
      refLogps: config.beta === 0 ? null : tensors.floats('ref_logps'),
    })
    const lossOf = ({ config }: Pick<RlCase, 'config'>): LossConfig => ({
      router_aux_loss_coef: 0,
      ...config,
    })
    const anyCase = Object.values(manifest.cases)[0]

    it('log-probabilities and entropies with and without the adapter are the reference’s', async () => {
      assert.ok(anyCase)
      policy.setAdapter(start)
      const batch = batchFor(anyCase)
      const own = await policy.logprobs(batch, { temperature: 1, adapter: true })
      assertClose(own.logps, tensors.floats('logps'), 2 * logitTolerance, 'logps')
      assertClose(own.entropies, tensors.floats('entropies'), 2 * logitTolerance, 'entropies')
      const base = await policy.logprobs(batch, { temperature: 1, adapter: false })
      assertClose(base.logps, tensors.floats('ref_logps'), 2 * logitTolerance, 'ref_logps')
      const cool = await policy.logprobs(batch, { temperature: 0.7, adapter: true })
      assertClose(cool.logps, tensors.floats('logps_temp07'), 3 * logitTolerance, 'logps_temp07')
    })

    it('the adapter acts on decoding and on other rows as in PEFT', async () => {
      policy.setAdapter(start)
      const sample = new Tensors(path.relative(GOLDEN_DIR, modelDir), 'golden.safetensors')
      const prompts = sequences(sample)
      const [, width = 0, vocabSize = 0] = tensors.shape('adapter_logits')
      const decoding = await policy.startDecoding(prompts)
      prompts.forEach((prompt, row) => {
        const at = (row * width + prompt.length - 1) * vocabSize
        assertClose(
          decoding.logits.subarray(row * vocabSize, (row + 1) * vocabSize),
          tensors.floats('adapter_logits').subarray(at, at + vocabSize),
          logitTolerance,
          `logits of row ${row}`,
        )
      })
      decoding.close()
      const batch = batchOf(prompts, 1)
      const { logps } = await policy.logprobs(batch, { temperature: 1, adapter: true })
      prompts.forEach((prompt, row) => {
        const [at, from] = [row * batch.completionLength, row * (width - 1)]
        assertClose(
          logps.subarray(at, at + prompt.length - 1),
          tensors.floats('adapter_token_logprobs').subarray(from, from + prompt.length - 1),
          2 * logitTolerance,
          `log-probabilities of row ${row}`,
        )
      })
    })

    for (const [caseName, golden] of Object.entries(manifest.cases))
      it(`${caseName}: loss, gradients and clipping are TRL's`, async () => {
        policy.setAdapter(start)
        const { loss, gradient, metrics, unreached } = await policy.lossAndGradient(
          batchFor(golden),
          lossOf(golden),
        )
        assertClose([loss], [golden.loss], LOSS_TOLERANCE, 'loss')
        const without = new Set(golden.tensors_without_grad)
        for (const [index, { name: tensor, shape, offset }] of policy.adapterLayout.tensors.entries()) {
          const seen = gradient.subarray(offset, offset + shape[0] * shape[1])
          assert.equal(unreached.has(index), without.has(tensor), `${tensor} reached by a token`)
          const expected = without.has(tensor)
            ? new Float32Array(seen.length)
            : gradientsFile.floats(`${caseName}/${tensor}`)
          assertClose(seen, expected, GRADIENT_TOLERANCE * golden.grad_max_abs, tensor)
        }
        const named: Record<string, number> = {
          'clip_ratio/low_mean': metrics.clipRatioLow,
          'clip_ratio/high_mean': metrics.clipRatioHigh,
          kl: metrics.kl,
          entropy: metrics.entropy,
        }
        for (const [key, value] of Object.entries(named)) {
          const wanted = golden.trl_metrics?.[key]
          if (wanted !== undefined) assertClose([value], [wanted], 5e-5, key)
        }
      })

    /** Runs AdamW on one batch, as the goldens do, and returns the adapter and the losses before each step. */
    const runAdamw = async (
      batch: LossBatch,
      loss: LossConfig,
      golden: AdamwGolden,
    ): Promise<{ adapter: Float32Array; losses: number[] }> => {
      policy.setAdapter(start)
      // Old log-probabilities stay those of the first forward over all steps, on policy too.
      const first = await policy.logprobs(batch, { temperature: loss.temperature, adapter: true })
      const oldLogps = batch.oldLogps ?? first.logps
      const ranges = policy.adapterLayout.tensors.map(({ offset, shape }) => ({
        offset,
        length: shape[0] * shape[1],
      }))
      let adapter = start
      let state = adamwInit(start.length, ranges.length)
      const losses: number[] = []
      for (let step = 0; step < golden.loss_before_update.length; step++) {
        policy.setAdapter(adapter)
        const result = await policy.lossAndGradient({ ...batch, oldLogps }, loss)
        losses.push(result.loss)
        const config = {
          learningRate: golden.lr,
          beta1: golden.betas[0],
          beta2: golden.betas[1],
          epsilon: golden.eps,
          weightDecay: golden.weight_decay,
        }
        const next = adamwUpdate(
          adapter,
          result.gradient,
          state,
          ranges,
          config,
          (index) => !result.unreached.has(index),
        )
        adapter = next.weights
        state = next.state
      }
      return { adapter, losses }
    }

    /** golden/README.md: 99.9 % within a share of the learning rate, all within one. */
    const assertWithinSteps = (
      seen: Float32Array,
      expected: Float32Array,
      lr: number,
      share: number,
    ): void => {
      assertClose(seen, expected, lr, 'every weight, within the learning rate')
      const off = seen.reduce(
        (count, value, i) => count + (Math.abs(value - (expected[i] ?? NaN)) <= share * lr ? 0 : 1),
        0,
      )
      assert.ok(
        off <= 0.001 * seen.length,
        `${off} of ${seen.length} weights are further off than ${share} of lr ${lr}`,
      )
    }

    const adamwFile = existsSync(path.join(GOLDEN_DIR, folder, 'adamw5.safetensors'))
      ? new Tensors(folder, 'adamw5.safetensors')
      : undefined
    for (const [caseName, golden] of Object.entries(manifest.cases))
      for (const [run, share] of [
        ['adamw5', 0.01],
        ['adamw5_smalllr', 0.1],
      ] as const) {
        const adamw = golden[run]
        if (adamw === undefined || adamwFile === undefined) continue
        it(`${caseName}: ${run} ends at torch's weights`, async () => {
          const { adapter, losses } = await runAdamw(batchFor(golden), lossOf(golden), adamw)
          assertWithinSteps(
            adapter,
            flatten(policy.adapterLayout, adamwFile, `${caseName}/${run}/`),
            adamw.lr,
            share,
          )
          assertClose(losses, adamw.loss_before_update, 20 * LOSS_TOLERANCE, 'losses')
        })
      }

    for (const [runName, run] of Object.entries(manifest.end_to_end_trl_train ?? {}))
      it(`${runName}: five steps of TRL's own trainer end at the same weights`, async () => {
        assert.ok(anyCase)
        policy.setAdapter(start)
        const config: LossConfig = {
          ...run.config,
          temperature: 1,
          max_completion_length: anyCase.config.max_completion_length,
        }
        const batch = batchFor({ config: { ...anyCase.config, beta: config.beta } })
        const golden = {
          lr: run.config.lr,
          betas: [0.9, 0.999] as [number, number],
          eps: 1e-8,
          weight_decay: 0,
          loss_before_update: run.loss_per_step,
        }
        const { adapter, losses } = await runAdamw({ ...batch, oldLogps: null }, config, golden)
        const expected = flatten(policy.adapterLayout, new Tensors(folder, 'e2e.safetensors'), `${runName}/`)
        assertWithinSteps(adapter, expected, run.config.lr, 0.01)
        assert.ok(
          maxDifference(losses, run.loss_per_step) <= 20 * LOSS_TOLERANCE,
          `losses ${losses.join(', ')}`,
        )
      })
  })
