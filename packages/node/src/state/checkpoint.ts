/**
 * The checkpoint of one node: the shared state of the last committed round, the trainer's own state and what lossy
 * deltas still owe, in one file that is replaced whole, so a crash leaves the old one or the new one. Hashed, so damage
 * is seen.
 *
 *   "GYMCKPT2", u64 lengths of shared, trainer and residual (0: none), these three, SHA3-256 of all before it
 */
import { readFile } from 'node:fs/promises'
import { SHA3_256_BYTES, sha3_256 } from '@gym-node/wire'
import { errnoOf, NodeError } from '../errors.ts'
import { writeFileDurably } from './atomic.ts'
import { decodeSharedState, encodeSharedState, f32Bytes, type SharedState } from './shared-state.ts'

const MAGIC = Buffer.from('GYMCKPT2', 'latin1')
const HEADER_BYTES = 32

/** What a node needs to go on after a restart. */
export interface Checkpoint {
  readonly shared: SharedState
  /** `Trainer.exportState()`: safetensors bytes. */
  readonly trainer: Uint8Array
  /** What the last delta that the ring counted lost by its dtype, in the adapter's layout; null when nothing. */
  readonly residual: Float32Array | null
}

/** Writes the checkpoint durably over the last one. */
export async function saveCheckpoint(path: string, checkpoint: Checkpoint): Promise<void> {
  const shared = encodeSharedState(checkpoint.shared)
  const header = Buffer.alloc(HEADER_BYTES)
  MAGIC.copy(header)
  header.writeBigUInt64LE(BigInt(shared.length), 8)
  header.writeBigUInt64LE(BigInt(checkpoint.trainer.length), 16)
  const residual = checkpoint.residual === null ? new Uint8Array(0) : f32Bytes(checkpoint.residual)
  header.writeBigUInt64LE(BigInt(residual.length), 24)
  const hash = sha3_256(header, shared, checkpoint.trainer, residual)
  await writeFileDurably(path, parts([header, shared, checkpoint.trainer, residual, hash]))
}

/** Reads the checkpoint; null when there is none. Throws NodeError STATE_CORRUPT when a byte is wrong. */
export async function loadCheckpoint(path: string): Promise<Checkpoint | null> {
  let bytes: Buffer
  try {
    bytes = await readFile(path)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
  const bodyEnd = bytes.length - SHA3_256_BYTES
  if (bodyEnd < HEADER_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new NodeError('STATE_CORRUPT', `${path} is not a checkpoint (${bytes.length} bytes)`)
  }
  const sharedLength = Number(bytes.readBigUInt64LE(8))
  const trainerLength = Number(bytes.readBigUInt64LE(16))
  const residualLength = Number(bytes.readBigUInt64LE(24))
  if (HEADER_BYTES + sharedLength + trainerLength + residualLength !== bodyEnd) {
    throw new NodeError('STATE_CORRUPT', `${path} is ${bytes.length} bytes, its header says another length`)
  }
  if (!bytes.subarray(bodyEnd).equals(sha3_256(bytes.subarray(0, bodyEnd)))) {
    throw new NodeError(
      'STATE_CORRUPT',
      `${path} does not match its SHA3-256: the disk or a program changed it`,
    )
  }
  const trainerAt = HEADER_BYTES + sharedLength
  const residualAt = trainerAt + trainerLength
  return {
    shared: decodeSharedState(bytes.subarray(HEADER_BYTES, trainerAt)),
    trainer: bytes.subarray(trainerAt, residualAt),
    residual:
      residualLength === 0
        ? null
        : new Float32Array(new Uint8Array(bytes.subarray(residualAt, bodyEnd)).buffer),
  }
}

async function* parts(buffers: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const buffer of buffers) if (buffer.length > 0) yield buffer
}
