/**
 * Answers state requests: the bytes this node holds under the hash that was asked for, from any offset on. All who ask
 * share one copy; a peer has one transfer at a time, and one that does not take what it asked for is given up.
 */
import type { FrameHeader } from '@gym-node/wire'
import type { RingLimits } from '../defaults.ts'
import { RingError } from '../errors.ts'
import { FRAME_KIND, type SealedLink } from '../link/sealed-link.ts'
import type { StateProvider } from '../types.ts'
import { parseStateRequest, type StateRequest } from './request.ts'

const NONE = new Uint8Array(0)

interface Copy {
  readonly hash: string
  readonly bytes: Promise<Uint8Array | null>
  users: number
}

/** Serves the state of one node. */
export class StateServer {
  readonly #state: StateProvider
  readonly #limits: RingLimits
  readonly #links = new Map<string, SealedLink>()
  /** what is being served now, and to how many */
  #copy: Copy | null = null

  constructor(state: StateProvider, limits: RingLimits) {
    this.#state = state
    this.#limits = limits
  }

  /** Serves one request on a fresh link, then waits for the other end to close it. Resolves with the bytes served. */
  async serve(link: SealedLink): Promise<number> {
    this.#links.get(link.peer)?.abort(new RingError('PEER_LOST', 'the peer asks anew', { peer: link.peer }))
    this.#links.set(link.peer, link)
    try {
      const request = await this.#inTime(link, 'ask for anything', nextRequest(link))
      if (request.hash !== this.#hash()) return await refuse(link, request)
      const copy = this.#hold(request.hash)
      try {
        const bytes = await copy.bytes
        if (bytes === null) return await refuse(link, request)
        return await this.#send(link, request, bytes)
      } finally {
        copy.users -= 1
        if (copy.users === 0 && this.#copy === copy) this.#copy = null
      }
    } finally {
      if (this.#links.get(link.peer) === link) this.#links.delete(link.peer)
    }
  }

  async #send(link: SealedLink, { round, offset }: StateRequest, bytes: Uint8Array): Promise<number> {
    if (offset > bytes.byteLength) return refuse(link, { round })
    const head = new Uint8Array(8)
    new DataView(head.buffer).setBigUint64(0, BigInt(bytes.byteLength), true)
    link.send({ kind: FRAME_KIND.stateHead, move: 0, round, chunk: 0 }, head)
    let chunk = 0
    for (let at = offset; at < bytes.byteLength; at += this.#limits.chunkBytes) {
      const part = bytes.subarray(at, at + this.#limits.chunkBytes)
      const more = link.send({ kind: FRAME_KIND.stateChunk, move: 0, round, chunk }, part)
      chunk += 1
      if (!more) await this.#inTime(link, 'take a chunk', link.drained())
    }
    const end = new Promise<void>((resolve) => link.onEnd(() => resolve()))
    await this.#inTime(link, 'take the last chunks', end)
    return bytes.byteLength - offset
  }

  /** The one copy of the present state, read when nobody holds it yet. */
  #hold(hash: string): Copy {
    if (this.#copy?.hash !== hash) this.#copy = { hash, bytes: this.#read(hash), users: 0 }
    this.#copy.users += 1
    return this.#copy
  }

  /** The bytes of this very state; null when it changed meanwhile: others are asked to believe what its hash says. */
  async #read(hash: string): Promise<Uint8Array | null> {
    const bytes = await this.#state.read()
    return hash === this.#hash() ? bytes : null
  }

  #hash(): string {
    return Buffer.from(this.#state.current().hash).toString('hex')
  }

  /** What the peer does next, or the end of its link when it does not. */
  async #inTime<T>(link: SealedLink, what: string, work: Promise<T>): Promise<T> {
    const { stallMs } = this.#limits
    const late = (): void =>
      link.abort(new RingError('TIMEOUT', `the peer did not ${what} in ${stallMs} ms`, { peer: link.peer }))
    const timer = setTimeout(late, stallMs)
    try {
      return await work
    } finally {
      clearTimeout(timer)
    }
  }
}

async function refuse(link: SealedLink, { round }: { readonly round: number }): Promise<number> {
  link.send({ kind: FRAME_KIND.stateRefused, move: 0, round, chunk: 0 }, NONE)
  await link.close()
  return 0
}

function nextRequest(link: SealedLink): Promise<StateRequest> {
  return new Promise((resolve, reject) => {
    link.onEnd(reject)
    link.onFrame((header: FrameHeader, payload: Uint8Array) => {
      if (header.kind !== FRAME_KIND.stateRequest) {
        throw new RingError('BAD_FRAME', `frame kind ${header.kind}, expected a state request`, {
          peer: link.peer,
        })
      }
      resolve(parseStateRequest(payload))
    })
  })
}
