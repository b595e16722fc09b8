/**
 * The two secret seeds of a node on disk: `identity/ed25519.seed` and `identity/ml-dsa-87.seed`, 64 hex digits
 * each, mode 0600 in a folder of mode 0700. Never overwrites a seed.
 */
import { existsSync } from 'node:fs'
import { mkdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createIdentity, generateIdentitySeeds, type Identity, type IdentitySeeds } from '@gym-node/wire'
import { errnoOf, NodeError } from '../errors.ts'
import { asStateError, syncFolder, writeFileDurably } from './atomic.ts'

const FILES = { ed25519: 'ed25519.seed', mlDsa87: 'ml-dsa-87.seed' } as const
const SEED_BYTES = 32

/**
 * Loads the identity in `folder`, or makes and stores a new one when the folder is missing. Seeds that systemd hands
 * over (LoadCredential, `$CREDENTIALS_DIRECTORY`) come first: then nothing secret lies in the state folder.
 */
export async function loadOrCreateIdentity(
  folder: string,
  credentials: string | undefined = process.env['CREDENTIALS_DIRECTORY'],
): Promise<{ identity: Identity; created: boolean }> {
  const isHandedOver = credentials !== undefined && existsSync(join(credentials, FILES.ed25519))
  const found = await loadSeeds(isHandedOver ? credentials : folder)
  if (found !== null) return { identity: createIdentity(found), created: false }
  const seeds = generateIdentitySeeds()
  await storeSeeds(folder, seeds)
  return { identity: createIdentity(seeds), created: true }
}

/** Loads the identity in `folder`. Throws NodeError FILE_NOT_FOUND when there is none, IDENTITY_* when it is not usable. */
export async function loadIdentity(folder: string): Promise<Identity> {
  const seeds = await loadSeeds(folder)
  if (seeds === null) throw new NodeError('FILE_NOT_FOUND', `there is no identity in ${folder}`)
  return createIdentity(seeds)
}

/** Reads both seeds; null when the folder does not exist. Throws NodeError IDENTITY_EXPOSED or IDENTITY_INVALID. */
async function loadSeeds(folder: string): Promise<IdentitySeeds | null> {
  try {
    await stat(folder)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw asStateError(error, folder)
  }
  return {
    ed25519: await loadSeed(join(folder, FILES.ed25519)),
    mlDsa87: await loadSeed(join(folder, FILES.mlDsa87)),
  }
}

async function loadSeed(path: string): Promise<Uint8Array> {
  let text: string
  let mode: number
  try {
    mode = (await stat(path)).mode & 0o777
    text = await readFile(path, 'utf8')
  } catch (error) {
    throw new NodeError('IDENTITY_INVALID', `cannot read ${path}, a secret seed of this node`, {
      cause: error,
    })
  }
  if ((mode & 0o077) !== 0) {
    throw new NodeError(
      'IDENTITY_EXPOSED',
      `${path} has mode ${mode.toString(8)}, others can read the secret: chmod 600 ${path}`,
    )
  }
  const hex = text.trim()
  if (!/^[0-9a-f]+$/i.test(hex) || hex.length !== 2 * SEED_BYTES) {
    throw new NodeError(
      'IDENTITY_INVALID',
      `${path} holds ${hex.length} characters, expected ${2 * SEED_BYTES} hex digits`,
    )
  }
  return Buffer.from(hex, 'hex')
}

/** Writes both seeds into a new folder that appears under its name only when complete. */
async function storeSeeds(folder: string, seeds: IdentitySeeds): Promise<void> {
  const unfinished = `${folder}.unfinished`
  try {
    await rm(unfinished, { recursive: true, force: true })
    await mkdir(unfinished, { recursive: true, mode: 0o700 })
    await writeFileDurably(
      join(unfinished, FILES.ed25519),
      `${Buffer.from(seeds.ed25519).toString('hex')}\n`,
      0o600,
    )
    await writeFileDurably(
      join(unfinished, FILES.mlDsa87),
      `${Buffer.from(seeds.mlDsa87).toString('hex')}\n`,
      0o600,
    )
    await rename(unfinished, folder)
    await syncFolder(dirname(folder))
  } catch (error) {
    throw asStateError(error, folder)
  }
}
