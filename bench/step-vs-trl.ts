/**
 * A GSPO step of this trainer beside TRL's on the same model folder: same LoRA, batch and threads, float32 against
 * float32 and 4 bits besides, run by turns. Prints one table of medians. TRL takes part when TORCH_PYTHON names a Python
 * with torch, transformers, peft and trl. Usage: node --conditions=gym-source bench/step-vs-trl.ts MODEL... [--runs 5]
 * [--steps 3] [--threads 2] [--only f32,trl,4bit] [--memory-limit MB of this trainer]
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { createOnnxCpuEngine } from '../packages/gspo/src/engine/onnx-cpu.ts'
import { GraphBuilder } from '../packages/gspo/src/graph/graph.ts'
import { readModelConfig } from '../packages/gspo/src/models/config.ts'
import { median } from './lib/format.ts'

const GROUP = 8
const PROMPT = 64
const COMPLETION = 64
const RANK = 16

const { values, positionals: models } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: 'string', default: '5' },
    steps: { type: 'string', default: '3' },
    threads: { type: 'string', default: '2' },
    only: { type: 'string', default: 'f32,trl,4bit' },
    'memory-limit': { type: 'string' },
  },
})
const threads = Number(values.threads)
const python = process.env.TORCH_PYTHON

/** Seconds of a step's parts, means over a run's steps. */
interface Run {
  readonly step: number
  readonly generate: number
  readonly forwardBackward: number
  readonly tokensPerSecond: number
  readonly peakMb: number
}

type System = 'f32' | '4bit' | 'trl'

if (models.length === 0) {
  console.error('usage: node --conditions=gym-source bench/step-vs-trl.ts MODEL... [--runs 5] [--steps 3]')
  process.exit(2)
}
if (python === undefined)
  console.log('TRL left out: set TORCH_PYTHON to a Python that has torch, transformers, peft and trl\n')
const ceiling = await matrixCeiling()
console.log(
  `matrix products of 1024 x 1024 x 1024 reach ${ceiling.toFixed(0)} GFLOP/s with ${threads} threads\n`,
)
for (const model of models) await compare(model)

async function compare(model: string): Promise<void> {
  const systems = values.only.split(',').filter((name): name is System => isSystem(name))
  const runs = new Map<System, Run[]>()
  for (let round = 0; round < Number(values.runs); round++)
    for (const system of systems) {
      if (system === 'trl' && python === undefined) continue
      const run = system === 'trl' ? await trl(model, python ?? '') : await own(model, system === '4bit')
      runs.set(system, [...(runs.get(system) ?? []), run])
    }
  const flops = await forwardBackwardFlops(model)
  const of = (system: System, key: keyof Run): number =>
    median((runs.get(system) ?? []).map((run) => run[key]))
  console.log(
    `${model}: ${GROUP} completions of ${COMPLETION} tokens on a prompt of ${PROMPT}, LoRA of rank ${RANK}`,
  )
  console.log(
    `medians of ${values.runs} runs of ${values.steps} steps each; "x" is how many times as fast as TRL\n`,
  )
  const head = [
    '',
    'step s',
    'x',
    'generate s',
    'x',
    'tokens/s',
    'fwd+bwd s',
    'x',
    'GFLOP/s',
    'of ceiling',
    'peak MB',
  ]
  const times = (system: System, key: 'step' | 'generate' | 'forwardBackward'): string =>
    runs.has('trl') ? (of('trl', key) / of(system, key)).toFixed(2) : '-'
  const rows = [...runs.keys()].map((system) => {
    const rate = flops / of(system, 'forwardBackward') / 1e9
    return [
      { f32: 'this, float32', '4bit': 'this, 4 bits', trl: 'TRL, float32' }[system],
      of(system, 'step').toFixed(2),
      times(system, 'step'),
      of(system, 'generate').toFixed(2),
      times(system, 'generate'),
      of(system, 'tokensPerSecond').toFixed(0),
      of(system, 'forwardBackward').toFixed(2),
      times(system, 'forwardBackward'),
      rate.toFixed(0),
      `${((100 * rate) / ceiling).toFixed(0)} %`,
      of(system, 'peakMb').toFixed(0),
    ]
  })
  for (const row of [head, head.map(() => '---'), ...rows]) console.log(`| ${row.join(' | ')} |`)
  console.log('')
}

function isSystem(name: string): name is System {
  return name === 'f32' || name === '4bit' || name === 'trl'
}

async function own(model: string, use4bit: boolean): Promise<Run> {
  const entry = fileURLToPath(new URL('../packages/node/bin/gym-node.js', import.meta.url))
  const sizes = ['--group', GROUP, '--prompt-length', PROMPT, '--completion', COMPLETION, '--lora-rank', RANK]
  const flags = ['--model', model, ...sizes, '--steps', values.steps, '--threads', threads, '--json']
  const report = await jsonOf(process.execPath, [
    entry,
    'bench',
    'step',
    ...flags,
    ...(use4bit ? ['--use-4bit'] : []),
    ...(values['memory-limit'] === undefined ? [] : ['--memory-limit', values['memory-limit']]),
  ])
  return {
    step: report('seconds_per_step'),
    generate: report('generate_s'),
    forwardBackward: report('forward_backward_s'),
    tokensPerSecond: report('generated_tokens_per_s'),
    peakMb: report('peak_rss_mb'),
  }
}

async function trl(model: string, interpreter: string): Promise<Run> {
  const script = fileURLToPath(new URL('./step-trl.py', import.meta.url))
  const sizes = ['--group', GROUP, '--prompt-len', PROMPT, '--completion', COMPLETION, '--lora-r', RANK]
  // One step more, which is left out, as in the other command.
  const flags = ['--model', model, ...sizes, '--steps', Number(values.steps) + 1, '--threads', threads]
  const report = await jsonOf(interpreter, [script, ...flags])
  return {
    step: report('seconds_per_step'),
    generate: report('generate_s'),
    forwardBackward: report('forward_s') + report('backward_s'),
    tokensPerSecond: report('generated_tokens_per_s'),
    peakMb: report('peak_rss_mb'),
  }
}

/** Runs a command and reads numbers off the last line that it prints, which is JSON. */
async function jsonOf(command: string, args: readonly (string | number)[]): Promise<(key: string) => number> {
  const child = spawn(command, args.map(String), { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  if (code !== 0) throw new Error(`${command} ended with code ${code}`)
  const parsed: unknown = JSON.parse(output.trim().split('\n').at(-1) ?? '')
  const fields = new Map(Object.entries(parsed ?? {}))
  return (key) => Number(fields.get(key))
}

/** Operations of forward and backward: products with frozen weights (there and back), the head, and LoRA. */
async function forwardBackwardFlops(model: string): Promise<number> {
  const { hiddenSize, heads, kvHeads, headSize, intermediateSize, layers, vocabSize } =
    await readModelConfig(model)
  const [queries, keys] = [heads * headSize, kvHeads * headSize]
  const sites = [
    [hiddenSize, queries],
    [hiddenSize, keys],
    [hiddenSize, keys],
    [queries, hiddenSize],
    [hiddenSize, intermediateSize],
    [hiddenSize, intermediateSize],
    [intermediateSize, hiddenSize],
  ] as const
  const frozen = layers * sites.reduce((sum, [from, to]) => sum + from * to, 0)
  const lora = layers * RANK * sites.reduce((sum, [from, to]) => sum + from + to, 0)
  // The prompt once, as this trainer runs it; the last token of a completion predicts nothing.
  const tokens = PROMPT + GROUP * (COMPLETION - 1)
  return 4 * tokens * frozen + 6 * tokens * lora + 4 * GROUP * COMPLETION * vocabSize * hiddenSize
}

/** GFLOP/s of the engine's plain matrix product: the best of some. */
async function matrixCeiling(): Promise<number> {
  const size = 1024
  const engine = createOnnxCpuEngine({ threads })
  const g = new GraphBuilder()
  const product = g.matmul(g.input('a', [size, size]), g.input('b', [size, size]))
  const session = await engine.compile(g.finish({ product }), { weights: 'repack' })
  const matrix = { dims: [size, size], values: new Float32Array(size * size).fill(0.5) }
  let best = Infinity
  for (let run = 0; run < 12; run++) {
    const start = performance.now()
    await session.run({ a: matrix, b: matrix })
    best = Math.min(best, performance.now() - start)
  }
  await session.close()
  await engine.close()
  return (2 * size ** 3) / best / 1e6
}
