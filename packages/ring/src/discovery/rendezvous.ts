/**
 * Peers of a job meet in the DHT: each announces itself under the job's key and looks who else did. Works with any
 * gym node or relay as bootstrap peer, whatever job it is of.
 */
import type { Libp2p } from '@libp2p/interface'
import {
  RENDEZVOUS_ALONE_MAX_MS,
  RENDEZVOUS_ANNOUNCE_MS,
  RENDEZVOUS_FIRST_MS,
  RENDEZVOUS_IN_COMPANY_MS,
  RENDEZVOUS_TIMEOUT_MS,
} from '../net/defaults.ts'
import type { KnownPeer } from '../net/peer-messages.ts'
import type { RingLogger } from '../types.ts'
import { jobKey } from './job-key.ts'

/** What the rendezvous works with. */
export interface RendezvousOptions {
  readonly node: Libp2p
  readonly job: string
  readonly logger: RingLogger
  /** an observer looks and does not announce itself */
  readonly announces: boolean
  /** peers of the job that are connected now */
  readonly company: () => number
  readonly onFound: (peer: KnownPeer) => void
}

/** Runs from `start` to `stop`; failures are waited out, as the DHT may not be there yet. */
export class Rendezvous {
  readonly #o: RendezvousOptions
  readonly #stop = new AbortController()
  #running: Promise<void> | null = null
  #lookWaitMs = RENDEZVOUS_FIRST_MS
  #announcedAt = -Infinity
  #announcedAs = ''

  constructor(options: RendezvousOptions) {
    this.#o = options
  }

  start(): void {
    this.#running ??= this.#run()
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error('stopping'))
    await this.#running
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      if (this.#o.node.getPeers().length > 0) {
        await this.#announce()
        await this.#look()
      }
      const inCompany = this.#o.company() > 0
      await this.#pause(inCompany ? RENDEZVOUS_IN_COMPANY_MS : this.#lookWaitMs)
      this.#lookWaitMs = inCompany
        ? RENDEZVOUS_FIRST_MS
        : Math.min(RENDEZVOUS_ALONE_MAX_MS, this.#lookWaitMs * 1.5)
    }
  }

  /**
   * Announces when it is due, or when this node's addresses have changed, as with a new relay. While alone it is due
   * every time: into a hash table that knows nobody yet an announcement goes without an error, and is lost.
   */
  async #announce(): Promise<void> {
    const { node, job, logger, announces, company } = this.#o
    const addresses = node.getMultiaddrs().join()
    const isDue = company() === 0 || performance.now() - this.#announcedAt > RENDEZVOUS_ANNOUNCE_MS
    if (!announces || (!isDue && addresses === this.#announcedAs)) return
    try {
      await node.contentRouting.provide(jobKey(job), { signal: this.#deadline() })
      this.#announcedAt = performance.now()
      this.#announcedAs = addresses
    } catch (cause) {
      logger.debug({ err: cause }, 'could not announce this node in the DHT')
    }
  }

  async #look(): Promise<void> {
    const { node, job, logger, onFound } = this.#o
    try {
      for await (const { id, multiaddrs } of node.contentRouting.findProviders(jobKey(job), {
        signal: this.#deadline(),
      })) {
        if (id.equals(node.peerId)) continue
        onFound({ peer: id.toString(), addresses: multiaddrs.map((address) => address.toString()) })
      }
    } catch (cause) {
      logger.debug({ err: cause }, 'could not look for peers in the DHT')
    }
  }

  #deadline(): AbortSignal {
    return AbortSignal.any([this.#stop.signal, AbortSignal.timeout(RENDEZVOUS_TIMEOUT_MS)])
  }

  /** Waits; in steps of a second, so that company that comes or goes, or a new address, is noticed. */
  async #pause(ms: number): Promise<void> {
    const hadCompany = this.#o.company() > 0
    const addresses = this.#o.node.getMultiaddrs().join()
    const until = performance.now() + ms
    while (performance.now() < until && !this.#stop.signal.aborted) {
      await sleep(Math.min(1_000, until - performance.now()), this.#stop.signal)
      if (this.#o.company() > 0 !== hadCompany) return
      if (this.#o.node.getMultiaddrs().join() !== addresses) return
    }
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done, { once: true })
  })
}
