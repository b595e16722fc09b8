/** `delta convert`: a delta in another dtype or compression, one tensor at a time. */

import type { DeltaCompression, DeltaDtype, DeltaMetadata, Identity } from '@gym-node/wire'
import { NodeError } from '../errors.ts'
import { DeltaCursor } from './delta-cursor.ts'
import { writeDeltaFile } from './delta-file.ts'

/** What `convertDelta` is asked. */
export interface ConvertOptions {
  readonly input: string
  readonly out: string
  readonly dtype: DeltaDtype
  readonly compression: DeltaCompression
  /** The worker's own identity signs the result; without it the result is unsigned. */
  readonly identity?: Identity
}

/** What `convertDelta` did. */
export interface Converted {
  readonly bytes: number
  /** |converted - original| / |original|; 0 when nothing was lost. */
  readonly relativeError: number
  readonly isSigned: boolean
}

/**
 * Writes a delta in another dtype or compression. The signatures cover the old bytes and are dropped; `converted_from`
 * names the body that was signed. Throws NodeError USAGE for an identity that is not the worker's.
 */
export async function convertDelta(options: ConvertOptions): Promise<Converted> {
  const { input, out, dtype, compression, identity } = options
  const delta = await DeltaCursor.open(input)
  try {
    if (identity !== undefined && identity.peerId !== delta.metadata.worker_id) {
      throw new NodeError(
        'USAGE',
        `${input} is by ${delta.metadata.worker_id}; only that worker can sign it, not ${identity.peerId}`,
      )
    }
    const metadata: DeltaMetadata = {
      ...delta.metadata,
      attestation: { type: 'none' },
      binding: null,
      converted_from: delta.metadata.converted_from ?? delta.bodySha3,
    }
    const matrices = delta.records.map(({ name, shape }, at) => ({
      name,
      shape,
      values: () => delta.values(at),
    }))
    const file = { metadata, matrices, dtype, compression }
    const bytes = await writeDeltaFile(out, identity === undefined ? file : { ...file, identity })
    return { bytes, relativeError: await lossOf(delta, out), isSigned: identity !== undefined }
  } finally {
    await delta.close()
  }
}

/** |converted - original| / |original|. */
async function lossOf(original: DeltaCursor, path: string): Promise<number> {
  const written = await DeltaCursor.open(path)
  try {
    let [error, norm] = [0, 0]
    for (const at of original.records.keys()) {
      const [before, after] = [await original.values(at), await written.values(at)]
      for (const [i, value] of before.entries()) {
        error += ((after[i] ?? 0) - value) ** 2
        norm += value * value
      }
    }
    return norm === 0 ? 0 : Math.sqrt(error / norm)
  } finally {
    await written.close()
  }
}
