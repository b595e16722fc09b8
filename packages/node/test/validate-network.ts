/** An exchange between peers of one process, for tests: requests are function calls, limits are kept. */

import type { Exchange } from '../src/validate/audit-protocol.ts'

type Handler = Parameters<Exchange['handle']>[1]
type Limits = Parameters<Exchange['handle']>[2]

async function collect(answer: Uint8Array | AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  if (answer instanceof Uint8Array) return answer
  const chunks: Uint8Array[] = []
  for await (const chunk of answer) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Peers that all know each other. */
export class MemoryNetwork {
  readonly #served = new Map<string, Map<string, { handler: Handler; limits: Limits }>>()

  /** A peer's end. */
  join(peerId: string): Exchange {
    const own = new Map<string, { handler: Handler; limits: Limits }>()
    this.#served.set(peerId, own)
    return {
      peerId,
      peers: () => [...this.#served.keys()].filter((peer) => peer !== peerId),
      request: async (peer, protocol, request, { maxResponseBytes, signal }) => {
        const served = this.#served.get(peer)?.get(protocol)
        if (served === undefined) throw new Error(`${peer} does not serve ${protocol}`)
        if (request.length > served.limits.maxRequestBytes) throw new Error('the request is too large')
        const context = { from: peerId, signal: signal ?? new AbortController().signal }
        const answer = await collect(await served.handler(Uint8Array.from(request), context))
        if (answer.length > maxResponseBytes)
          throw new Error(`the answer has ${answer.length} bytes, limit ${maxResponseBytes}`)
        return Uint8Array.from(answer)
      },
      handle: (protocol, handler, limits) => {
        own.set(protocol, { handler, limits })
        return Promise.resolve(() => {
          own.delete(protocol)
          return Promise.resolve()
        })
      },
    }
  }
}
