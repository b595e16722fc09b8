/**
 * Who is answered when more ask than are answered at once. Slots are shared fairly by address and then by peer, and while
 * somebody waits an answer must keep a least pace: so neither few peers nor many names at one address keep the others
 * out, however long they hold on. Pure: the caller brings the time and carries the decisions out.
 */

/** One request, from its arrival to its end. Made by the caller, known by identity. */
export interface RequestTicket {
  readonly peer: string
  /** What costs an attacker more than a name: the network that the request comes from. */
  readonly network: string
  /** Time of its start, ms; null while it waits. */
  startedAt: number | null
  /** Bytes of request and answer that the peer has sent or taken so far. */
  bytes: number
}

/** What is to be done. */
export type SlotDecision =
  | { readonly kind: 'start'; readonly ticket: RequestTicket }
  /** Ends a request that runs (`startedAt` is set) or waits. */
  | { readonly kind: 'end'; readonly ticket: RequestTicket; readonly reason: string }

/** Sizes. */
export interface SlotLimits {
  /** Requests answered at once. */
  readonly running: number
  /** Requests that wait beside them. */
  readonly waiting: number
  /** Time that each request has whatever its pace, ms. */
  readonly graceMs: number
  /** Least pace of a request while another waits, bytes per second. */
  readonly bytesPerSecond: number
}

/** The slots of one protocol. */
export class RequestSlots {
  readonly #limits: SlotLimits
  readonly #running = new Set<RequestTicket>()
  /** In the order of their arrival. */
  readonly #waiting = new Set<RequestTicket>()

  constructor(limits: SlotLimits) {
    this.#limits = limits
  }

  /** Whether somebody waits: then `look` is due again and again. */
  get isContended(): boolean {
    return this.#waiting.size > 0
  }

  /** A request has come. */
  ask(ticket: RequestTicket, now: number): SlotDecision[] {
    this.#waiting.add(ticket)
    const decisions = this.look(now)
    if (this.#waiting.size <= this.#limits.waiting) return decisions
    // Whoever has most of everything gives way; of equals the one that came last.
    const dropped = mostOf([...this.#waiting].reverse(), (one) => this.#weight(one))
    this.#waiting.delete(dropped)
    const reason = `${this.#running.size} requests are running and ${this.#limits.waiting} wait`
    return [...decisions, { kind: 'end', ticket: dropped, reason }]
  }

  /** A request has ended by itself, or because it was told to. */
  done(ticket: RequestTicket, now: number): SlotDecision[] {
    this.#waiting.delete(ticket)
    return this.#running.delete(ticket) ? this.look(now) : []
  }

  /** Starts whoever may start, and ends what keeps others out longer than is fair. */
  look(now: number): SlotDecision[] {
    const decisions: SlotDecision[] = []
    for (;;) {
      const next = this.#next()
      if (next === null) return decisions
      if (this.#running.size >= this.#limits.running) {
        const victim = this.#victim(next, now)
        if (victim === null) return decisions
        this.#running.delete(victim.ticket)
        decisions.push({ kind: 'end', ...victim })
      }
      this.#waiting.delete(next)
      this.#running.add(next)
      next.startedAt = now
      decisions.push({ kind: 'start', ticket: next })
    }
  }

  /** The waiting request whose network, then peer, has fewest running; of equals the first that came. */
  #next(): RequestTicket | null {
    const [first] = this.#waiting
    if (first === undefined) return null
    return mostOf([...this.#waiting], ({ network, peer }) => [-this.#ofNetwork(network), -this.#ofPeer(peer)])
  }

  /** A running request that has to give its slot to `next`, if one has. */
  #victim(next: RequestTicket, now: number): { ticket: RequestTicket; reason: string } | null {
    const running = [...this.#running]
    // Only where the slot moves towards equal shares: with a difference of one it would move back and forth.
    const greedy = running.filter(
      ({ network, peer }) =>
        this.#ofNetwork(network) > this.#ofNetwork(next.network) + 1 ||
        (network === next.network && this.#ofPeer(peer) > this.#ofPeer(next.peer) + 1),
    )
    if (greedy.length > 0) {
      const ticket = mostOf(greedy, (one) => [...this.#weight(one), one.startedAt ?? 0])
      return { ticket, reason: 'others wait, and this peer or its network has more than its share' }
    }
    const slow = running.filter((one) => this.#behindMs(one, now) > 0)
    if (slow.length === 0) return null
    const ticket = mostOf(slow, (one) => [this.#behindMs(one, now)])
    const { bytesPerSecond, graceMs } = this.#limits
    return {
      ticket,
      reason: `others wait, and ${ticket.bytes} bytes in ${now - (ticket.startedAt ?? now)} ms are slower than ${bytesPerSecond} bytes a second after ${graceMs} ms`,
    }
  }

  /** By how much a request has taken longer than its bytes allow, ms. */
  #behindMs({ startedAt, bytes }: RequestTicket, now: number): number {
    const { graceMs, bytesPerSecond } = this.#limits
    return now - (startedAt ?? now) - graceMs - (1000 * bytes) / bytesPerSecond
  }

  #weight({ network, peer }: RequestTicket): number[] {
    const all = [...this.#running, ...this.#waiting]
    return [
      all.filter((one) => one.network === network).length,
      all.filter((one) => one.peer === peer).length,
    ]
  }

  #ofNetwork(network: string): number {
    return count(this.#running, (one) => one.network === network)
  }

  #ofPeer(peer: string): number {
    return count(this.#running, (one) => one.peer === peer)
  }
}

/**
 * The network of a multiaddr as fairness counts it: an IPv4 address, the /64 of an IPv6 address (what one customer
 * gets), or the relay that a relayed connection comes through.
 */
export function networkOf(address: string): string {
  const relayed = address.includes('/p2p-circuit') ? 'through ' : ''
  const v4 = /^\/ip4\/([^/]+)/.exec(address)?.[1]
  if (v4 !== undefined) return relayed + v4
  const v6 = /^\/ip6(?:zone\/[^/]+\/ip6)?\/([^/]+)/.exec(address)?.[1]
  return relayed + (v6 === undefined ? address : prefix64(v6))
}

/** The first four groups of an IPv6 address, in one spelling. */
function prefix64(address: string): string {
  const [head = '', tail] = address.toLowerCase().split('::')
  const left = head.split(':').filter((group) => group !== '')
  const right = (tail ?? '').split(':').filter((group) => group !== '')
  const zeros = Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => '0')
  const groups = tail === undefined ? left : [...left, ...zeros, ...right]
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}

function count(tickets: Iterable<RequestTicket>, counts: (ticket: RequestTicket) => boolean): number {
  let sum = 0
  for (const ticket of tickets) if (counts(ticket)) sum += 1
  return sum
}

/** The first of the tickets whose numbers are greatest, compared in order; `tickets` is not empty. */
function mostOf(
  tickets: readonly RequestTicket[],
  numbers: (ticket: RequestTicket) => readonly number[],
): RequestTicket {
  return tickets.reduce((best, one) => {
    const [left, right] = [numbers(one), numbers(best)]
    const at = left.findIndex((number, i) => number !== right[i])
    return at >= 0 && (left[at] ?? 0) > (right[at] ?? 0) ? one : best
  })
}
