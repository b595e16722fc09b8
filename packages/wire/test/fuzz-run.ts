/** What the fuzzer promises of every mutant, and the loop that checks it. */
import { decodeDeltaBuffer, DELTA_COMPRESSIONS, encodeDeltaToBuffer, WireError } from '@gym-node/wire'
import type { DeltaLimits, DeltaTensor } from '@gym-node/wire'
import { fieldsOf, mutate, Random } from './delta-mutator.ts'
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
    const tensors: DeltaTensor[] = []
    for await (const tensor of delta.tensors()) {
      requireSound(tensor)
      tensors.push(tensor)
    }
    await delta.finish()
    const { compression } = delta.header
    const again = await encodeDeltaToBuffer({ metadata: delta.metadata, tensors, compression })
    requireOneSpelling(mutant, again)
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

/** Whatever is read is the only spelling of its content: writing it again gives the same bytes. */
function requireOneSpelling(mutant: Uint8Array, again: Uint8Array): void {
  const [seen, written] = [contentOf(mutant), contentOf(again)]
  for (const [i, field] of seen.entries()) {
    if (field !== written[i]) throw new Error(`reads, but is written again as ${written[i]}, not ${field}`)
  }
}

/** Each field but those with more than one true form: frames, the scales of lossy dtypes, checksum and signatures. */
function contentOf(file: Uint8Array): string[] {
  const { fields, bodyEnd } = fieldsOf(file)
  const isCompressed = file[6] !== 0
  let dtype = 0
  const content: string[] = []
  for (const { what, offset, size } of fields) {
    if (what === 'dtype') dtype = file[offset]
    if (offset >= bodyEnd || what === 'checksum' || what === 'flags') continue
    if ((what === 'data' || what === 'data length') && (isCompressed || dtype > 2)) continue
    content.push(`${what} ${Buffer.from(file).toString('hex', offset, offset + size)}`)
  }
  return content
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
