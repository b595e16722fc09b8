/** From the section `network` to what the ring takes: reads the swarm key, opens the list of known peers. */
import { readFile } from 'node:fs/promises'
import { checkSwarmKey, RingError, type BookStore, type NetworkOptions } from '@gym-node/ring'
import { errnoOf, messageOf, NodeError } from '../errors.ts'
import { writeFileDurably } from '../state/atomic.ts'
import type { NetworkConfig } from './config.ts'

/** The options; `bookFile` is where known peers are kept. Throws what `readSwarmKey` throws. */
export async function ringNetwork(config: NetworkConfig, bookFile: string): Promise<NetworkOptions> {
  const swarmKey = await readSwarmKey(config.swarm_key_file)
  return {
    dht: config.dht,
    relay: config.relay,
    relays: config.relays,
    holePunching: config.hole_punching,
    reachability: config.reachability,
    announce: config.announce,
    ...(swarmKey === null ? {} : { swarmKey }),
    ...(config.known_peers ? { book: bookStore(bookFile) } : {}),
  }
}

/**
 * The swarm key in a file, or null when none is configured. Throws NodeError FILE_NOT_FOUND or FILE_UNREADABLE, or
 * RingError BAD_SWARM_KEY that names the file.
 */
export async function readSwarmKey(path: string | null): Promise<string | null> {
  if (path === null) return null
  const text = await readKeyFile(path)
  try {
    return checkSwarmKey(text)
  } catch (error) {
    throw new RingError('BAD_SWARM_KEY', `${path} is ${messageOf(error)}`, { cause: error })
  }
}

async function readKeyFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const code = errnoOf(error) === 'ENOENT' ? 'FILE_NOT_FOUND' : 'FILE_UNREADABLE'
    throw new NodeError(code, `cannot read network.swarm_key_file ${path}`, { cause: error })
  }
}

function bookStore(path: string): BookStore {
  return {
    load: async () => {
      try {
        return await readFile(path)
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return null
        throw error
      }
    },
    save: async (bytes) => {
      await writeFileDurably(path, bytes)
    },
  }
}
