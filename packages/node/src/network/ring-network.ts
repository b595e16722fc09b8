/** From the section `network` to what the ring takes: reads the swarm key, opens the list of known peers. */
import { readFile } from 'node:fs/promises'
import type { BookStore, NetworkOptions } from '@gym-node/ring'
import { errnoOf, NodeError } from '../errors.ts'
import { writeFileDurably } from '../state/atomic.ts'
import type { NetworkConfig } from './config.ts'

/** The options; `bookFile` is where known peers are kept. Throws NodeError FILE_NOT_FOUND or FILE_UNREADABLE. */
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

/** The text of a swarm key file, or null when none is configured; the ring checks what is in it. */
export async function readSwarmKey(path: string | null): Promise<string | null> {
  if (path === null) return null
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
