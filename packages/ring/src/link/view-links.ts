/** The two links a member has in a view: one it opens to its successor, one that its predecessor opens to it. */
import { RingError } from '../errors.ts'
import type { View } from '../types.ts'
import type { Lanes } from './lanes.ts'

/** Opens the lanes to a peer for the rounds of a view. */
export type LinkDialer = (peer: string, view: View, signal: AbortSignal) => Promise<Lanes>

/** Links live as long as their view: its epoch is bound into their keys. */
export class ViewLinks {
  readonly view: View
  readonly successor: string
  readonly predecessor: string
  readonly #dial: LinkDialer
  readonly #closing = new AbortController()
  #to: Promise<Lanes> | null = null
  #from: Lanes | null = null
  #waiting: PromiseWithResolvers<Lanes> | null = null

  constructor(view: View, self: string, dial: LinkDialer) {
    const at = view.members.indexOf(self)
    const count = view.members.length
    this.view = view
    this.successor = view.members[(at + 1) % count]
    this.predecessor = view.members[(at - 1 + count) % count]
    this.#dial = dial
  }

  /** The link to the successor, opened now if it is not open. Rejects with what kept it from opening. */
  to(): Promise<Lanes> {
    this.#to ??= this.#openTo()
    return this.#to
  }

  /** The link from the predecessor, as soon as it is there. Rejects when the links are closed. */
  from(): Promise<Lanes> {
    if (this.#from !== null) return Promise.resolve(this.#from)
    this.#waiting ??= Promise.withResolvers()
    return this.#waiting.promise
  }

  /** Takes the link that the predecessor opened; a newer one replaces an older one. */
  accept(link: Lanes): void {
    this.#from?.abort(new RingError('PEER_LOST', 'the predecessor opened a new link', { peer: link.peer }))
    this.#from = link
    link.onEnd(() => {
      if (this.#from === link) this.#from = null
    })
    this.#waiting?.resolve(link)
    this.#waiting = null
  }

  /** Drops links with a broken-off round in them; new ones can be opened under the same view. */
  reset(reason: RingError): void {
    this.#from?.abort(reason)
    this.#from = null
    void this.#to?.then(
      (link) => link.abort(reason),
      () => undefined, // it never opened: nothing to end
    )
    this.#to = null
  }

  /** Ends both links, and every wait for one. */
  close(reason: RingError): void {
    this.#closing.abort(reason)
    this.#waiting?.promise.catch(() => undefined) // may be awaited by nobody
    this.#waiting?.reject(reason)
    this.#waiting = null
    this.reset(reason)
  }

  async #openTo(): Promise<Lanes> {
    try {
      const link = await this.#dial(this.successor, this.view, this.#closing.signal)
      link.onEnd(() => {
        this.#to = null
      })
      if (this.#closing.signal.aborted) link.abort(this.#closing.signal.reason as RingError)
      return link
    } catch (thrown) {
      this.#to = null
      throw thrown
    }
  }
}
