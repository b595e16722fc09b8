/** What the fuzzer promises of every mutant, and the loop that checks it. */
import { decodeDeltaBuffer, DELTA_COMPRESSIONS, encodeDeltaToBuffer, WireError } from '@gym-node/wire'
import type { DeltaLimits, DeltaTensor } from '@gym-node/wire'
import { mutate, Random } from './delta-mutator.ts'
import { SAMPLE_METADATA, sampleTensors, testIdentity } from './samples.ts'

/** What a run found. */
export interface FuzzReport {
  readonly cases: number
  /** How many mutants ended in each `WireErrorCode`, or `read`. */
  readonly outcomes: Map<string, number>
  /** Most bytes of buffers and heap in use after any thousandth case. */
  readonly peakBytes: number
  /** The first broken promise, in words; null when all held. */
  readonly failure: string | null
}

/** Tight enough that a false length shows as refused, not as slow. */
const LIMITS: DeltaLimits = {
  maxMetadataBytes: 65536,
  maxTensors: 100,
  maxNameBytes: 200,
  maxTensorBytes: 1 << 20,
  maxTotalBytes: 4 << 20,
}

/** Runs `cases` mutants from `seed` on. Promises: it reads or throws a `WireError`; what it read is finite and shaped. */
export async function runFuzz(cases: number, seed: number): Promise<FuzzReport> {
  const originals = await makeOriginals()
  const outcomes = new Map<string, number>()
  let peakBytes = 0
  for (let i = 0; i < cases; i++) {
    const random = new Random(seed + i)
    const mutant = mutate(random.pick(originals), random)
    let outcome: string
    try {
      outcome = await readMutant(mutant)
    } catch (error) {
      const failure = `case seed ${seed + i}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`
      return { cases: i + 1, outcomes, peakBytes, failure }
    }
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
    if (i % 1000 === 0) {
      const { heapUsed, external } = process.memoryUsage()
      peakBytes = Math.max(peakBytes, heapUsed + external)
    }
  }
  return { cases, outcomes, peakBytes, failure: null }
}

async function readMutant(mutant: Uint8Array): Promise<string> {
  try {
    const delta = await decodeDeltaBuffer(mutant, LIMITS)
    for await (const tensor of delta.tensors()) requireSound(tensor)
    await delta.finish()
    return 'read'
  } catch (error) {
    if (error instanceof WireError) return error.code
    throw error
  }
}

function requireSound({ name, shape, values }: DeltaTensor): void {
  const elements = shape.reduce((product, dimension) => product * dimension, 1)
  if (values.length !== elements)
    throw new Error(`${name}: ${values.length} values for shape ${shape.join('x')}`)
  if (!values.every(Number.isFinite)) throw new Error(`${name}: a value is not finite`)
}

async function makeOriginals(): Promise<Uint8Array[]> {
  const originals: Uint8Array[] = []
  for (const compression of DELTA_COMPRESSIONS) {
    const input = { metadata: SAMPLE_METADATA, tensors: sampleTensors(), compression }
    originals.push(await encodeDeltaToBuffer(input))
    originals.push(await encodeDeltaToBuffer({ ...input, signers: testIdentity(1) }))
  }
  return originals
}
