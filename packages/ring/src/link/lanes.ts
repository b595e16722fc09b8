/** What connects two neighbours for the rounds of a view: one sealed link, or several side by side on direct sockets. */
import type { RingError } from '../errors.ts'
import type { SealedLink } from './sealed-link.ts'

/** Frames of a round go to the lanes in turn; everything else goes on the first. One lane's end is the end of all. */
export class Lanes {
  readonly links: readonly SealedLink[]
  readonly first: SealedLink

  constructor(links: readonly [SealedLink, ...SealedLink[]]) {
    this.links = links
    this.first = links[0]
    for (const link of links) link.onEnd((reason) => this.abort(reason))
  }

  get peer(): string {
    return this.first.peer
  }

  get kind(): 'stream' | 'direct' {
    return this.first.carrier.kind
  }

  get bytesSent(): number {
    return this.links.reduce((sum, link) => sum + link.bytesSent, 0)
  }

  get bytesReceived(): number {
    return this.links.reduce((sum, link) => sum + link.bytesReceived, 0)
  }

  /** Bytes per ms that came in since the last question, of all lanes together; null when too few frames tell. */
  takePace(): number | null {
    const rates = this.links.map(({ pace }) => pace.take()).filter((rate) => rate !== null)
    return rates.length === 0 ? null : rates.reduce((sum, rate) => sum + rate, 0)
  }

  park(): void {
    for (const link of this.links) link.park()
  }

  onEnd(handler: (reason: RingError) => void): () => void {
    return this.first.onEnd(handler)
  }

  abort(reason: RingError): void {
    for (const link of this.links) link.abort(reason)
  }
}
