/**
 * The arithmetic of a round of two alone, without sockets and seals: half of a vector sent, half finished, half stored,
 * chunk by chunk. Once on arrays in the kernels' memory, once on others, by turns; CPU time, which other work on the
 * machine disturbs less than time. Run: node --conditions=gym-source bench/all-reduce-kernels.ts [--megabytes 64] [--runs 15]
 */
import { parseArgs } from 'node:util'
import { ChunkMath } from '../packages/ring/src/kernels/chunk-math.ts'
import { ChunkMemory } from '../packages/ring/src/kernels/chunk-memory.ts'

const CHUNK = 256 * 1024
const WIRES = ['f32', 'bf16', 'int8'] as const

interface Arrays {
  readonly vector: Float32Array
  readonly result: Float32Array
  readonly residual: Uint16Array
  readonly kept: Uint16Array
}

/** One round's arithmetic of one node; what comes is what it sends itself. */
function round(math: ChunkMath, { vector, result, residual, kept }: Arrays): void {
  const isInt8 = math.wire === 'int8'
  const half = vector.length / 2
  const part = (start: number): Parameters<ChunkMath['send']>[0] => ({
    own: vector.subarray(start, start + CHUNK),
    weight: 1,
    residual: isInt8 ? residual.subarray(start, start + CHUNK) : null,
    kept: isInt8 ? kept.subarray(start, start + CHUNK) : null,
  })
  const came = math.send(part(0)).slice()
  // In f32 and with weight 1 a node sends its values as they lie.
  if (math.wire !== 'f32') for (let start = CHUNK; start < half; start += CHUNK) math.send(part(start))
  for (let start = half; start < vector.length; start += CHUNK) {
    math.finish(part(start), came, 2, result.subarray(start, start + CHUNK))
  }
  for (let start = 0; start < half; start += CHUNK) math.decode(came, result.subarray(start, start + CHUNK))
}

function cpuMs(run: () => void): number {
  const before = process.cpuUsage()
  run()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}

function middle(list: readonly number[]): number {
  return [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0
}

const { values } = parseArgs({
  options: { megabytes: { type: 'string', default: '64' }, runs: { type: 'string', default: '15' } },
})
const length = (Number(values.megabytes) * 1024 * 1024) / 4
for (const wire of WIRES) {
  const memory = new ChunkMemory(CHUNK, 16 * length)
  const math = new ChunkMath(wire, memory)
  const elsewhere: Arrays = {
    vector: Float32Array.from({ length }, (_, i) => Math.sin(i)),
    result: new Float32Array(length),
    residual: new Uint16Array(length),
    kept: new Uint16Array(length),
  }
  const inPlace: Arrays = {
    vector: memory.lendFloats(length) ?? elsewhere.vector,
    result: memory.lendFloats(length) ?? elsewhere.result,
    residual: memory.lendHalves(length) ?? elsewhere.residual,
    kept: memory.lendHalves(length) ?? elsewhere.kept,
  }
  inPlace.vector.set(elsewhere.vector)
  const times: [number[], number[]] = [[], []]
  for (let run = -5; run < Number(values.runs); run++) {
    for (const [i, arrays] of [inPlace, elsewhere].entries()) {
      const ms = cpuMs(() => round(math, arrays))
      if (run >= 0) times[i].push(ms)
    }
  }
  const [here, there] = times.map(
    (list) => `${middle(list).toFixed(1)} ms (least ${Math.min(...list).toFixed(1)})`,
  )
  console.log(`${wire}: in place ${here}, through copies ${there}`)
}
