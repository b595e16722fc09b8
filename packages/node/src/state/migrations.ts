/**
 * Brings a state folder of an older version up to this one, a step for each version. A step is done again when a crash
 * cut it off: it leaves alone what is already new, and the version file changes last.
 */
import { readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { SHA3_256_BYTES, sha3_256 } from '@gym-node/wire'
import { errnoOf, NodeError } from '../errors.ts'
import { syncFolder, writeFileDurably } from './atomic.ts'

/** Version of the layout that this gym-node writes. */
export const LAYOUT_VERSION = 2

/** The step from version `n` is at `n`. */
const STEPS: ReadonlyMap<number, (root: string) => Promise<void>> = new Map([[1, fromVersion1]])

/**
 * Writes the version of a new folder and migrates an older one; answers the version that was found, null for a new
 * folder. Throws NodeError STATE_VERSION for a newer one, which stays as it is.
 */
export async function bringUpToDate(root: string): Promise<number | null> {
  const path = join(root, 'version')
  const found = await readVersion(path)
  if (found === LAYOUT_VERSION) return found
  for (let version = found ?? LAYOUT_VERSION; version < LAYOUT_VERSION; version++)
    await STEPS.get(version)?.(root)
  await writeFileDurably(path, `${LAYOUT_VERSION}\n`)
  return found
}

async function readVersion(path: string): Promise<number | null> {
  let text: string
  try {
    text = (await readFile(path, 'utf8')).trim()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
  const version = Number(text)
  if (/^\d{1,6}$/.test(text) && version >= 1 && version <= LAYOUT_VERSION) return version
  throw new NodeError(
    'STATE_VERSION',
    `${path} says layout version ${text.slice(0, 20)}, this gym-node reads versions 1 to ${LAYOUT_VERSION}`,
  )
}

async function fromVersion1(root: string): Promise<void> {
  await setResultAside(root)
  await widenCheckpoint(root)
}

/**
 * The ring's last result is kept for members that missed it, in a format that changed. A folder that was left in order
 * holds that round in its checkpoint, which the others can fetch instead; so it is put aside, not converted.
 */
async function setResultAside(root: string): Promise<void> {
  try {
    await rename(join(root, 'result'), join(root, 'result.version-1'))
    await syncFolder(root)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}

/**
 * The checkpoint gets room for what lossy deltas owe, which is nothing yet.
 *   "GYMCKPT1", u64 lengths of shared and trainer, these two, SHA3-256   ->   GYMCKPT2 of checkpoint.ts
 */
async function widenCheckpoint(root: string): Promise<void> {
  const OLD_HEADER_BYTES = 24
  const path = join(root, 'checkpoint')
  let bytes: Buffer
  try {
    bytes = await readFile(path)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return
    throw error
  }
  if (bytes.toString('latin1', 0, 8) !== 'GYMCKPT1') return
  const bodyEnd = bytes.length - SHA3_256_BYTES
  if (bodyEnd < OLD_HEADER_BYTES || !bytes.subarray(bodyEnd).equals(sha3_256(bytes.subarray(0, bodyEnd))))
    throw new NodeError('STATE_CORRUPT', `${path} does not match its SHA3-256: it cannot be migrated`)
  const header = Buffer.concat([
    Buffer.from('GYMCKPT2', 'latin1'),
    bytes.subarray(8, OLD_HEADER_BYTES),
    Buffer.alloc(8),
  ])
  const body = bytes.subarray(OLD_HEADER_BYTES, bodyEnd)
  await writeFileDurably(path, Buffer.concat([header, body, sha3_256(header, body)]))
}
