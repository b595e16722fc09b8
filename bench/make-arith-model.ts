/**
 * The demo model from random weights, in this project alone: supervised training on two-digit sums until sampling is
 * right about one time in three, which is where reinforcement learning has something to do. The result is a model like
 * the shipped one, not the same bits: that one was trained with PyTorch.
 * Usage: node --conditions=gym-source bench/make-arith-model.ts OUTPUT_DIR
 */
import { runSft } from '@gym-node/gspo'
import { ARITH } from './lib/arith.ts'

const [outputDir] = process.argv.slice(2)
if (outputDir === undefined) throw new Error('usage: make-arith-model.ts OUTPUT_DIR')
const last = await runSft(
  {
    model: ARITH.model,
    dataset: ARITH.train,
    eval_dataset: ARITH.test,
    output_dir: outputDir,
    max_steps: 600,
    eval_steps: 10,
    batch_size: 256,
    learning_rate: 2e-3,
    stop_at_accuracy: 0.33,
  },
  {
    onProgress: ({ step, loss, accuracy, seconds }) =>
      console.log(
        `update ${step}, loss ${loss.toFixed(4)}, sampled accuracy ${accuracy?.toFixed(4)}, ${seconds.toFixed(0)} s`,
      ),
  },
)
console.log(`${outputDir}: ${last.step} updates, held-out sampled accuracy ${last.accuracy?.toFixed(4)}`)
