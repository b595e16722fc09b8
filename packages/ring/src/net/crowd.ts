/**
 * Who goes when there are more connections than this node keeps: never a member of its ring; strangers that have not
 * said hello before peers of the job, and of these first whoever has been idle longest on the host with most of them.
 * libp2p by itself refuses whoever comes next, so that one host with idle connections would keep everybody out.
 */
import type { Connection, Libp2p } from '@libp2p/interface'
import { hostOf } from '../reach/reachability.ts'
import type { NetCounters } from './net-counters.ts'

/** What the choice is made by. */
export interface CrowdOptions {
  readonly node: Libp2p
  /** open connections in all */
  readonly most: number
  /** peers that this node cannot do without */
  readonly isNeeded: (peer: string) => boolean
  /** peers that have said what they want here */
  readonly hasSpoken: (peer: string) => boolean
  readonly counters: NetCounters
}

/** What is known of one connection. */
export interface Guest {
  readonly isNeeded: boolean
  readonly hasSpoken: boolean
  readonly isInbound: boolean
  /** where it comes from; one network of IPv6 counts as one host */
  readonly host: string
  /** ms since 1970 */
  readonly openedAt: number
}

/** The one that goes; null when all are needed. Pure. */
export function whoGoes<T extends Guest>(guests: readonly T[]): T | null {
  const perHost = new Map<string, number>()
  for (const { host } of guests) perHost.set(host, (perHost.get(host) ?? 0) + 1)
  const rank = (guest: T): readonly number[] => [
    guest.hasSpoken ? 1 : 0,
    guest.isInbound ? 0 : 1,
    -(perHost.get(guest.host) ?? 0),
    guest.openedAt,
  ]
  const less = (a: readonly number[], b: readonly number[]): boolean => {
    const at = a.findIndex((value, i) => value !== b[i])
    return at >= 0 && (a[at] ?? 0) < (b[at] ?? 0)
  }
  let first: T | null = null
  for (const guest of guests) {
    if (!guest.isNeeded && (first === null || less(rank(guest), rank(first)))) first = guest
  }
  return first
}

/** Has one go for each that comes when there is no room, from now on. */
export function keepRoom(options: CrowdOptions): void {
  const { node, most, counters } = options
  node.addEventListener('connection:open', () => {
    const open = node.getConnections().filter(({ status }) => status === 'open')
    if (open.length <= most) return
    const gone = whoGoes(open.map((connection) => guestOf(connection, options)))
    if (gone === null) return
    counters.hit('connections')
    gone.connection.abort(new Error(`more than ${most} connections are open`))
  })
}

function guestOf(
  connection: Connection,
  { isNeeded, hasSpoken }: CrowdOptions,
): Guest & { readonly connection: Connection } {
  const peer = connection.remotePeer.toString()
  return {
    connection,
    isNeeded: isNeeded(peer),
    hasSpoken: hasSpoken(peer),
    isInbound: connection.direction === 'inbound',
    host: networkOf(connection),
    openedAt: connection.timeline.open,
  }
}

/** The IPv4 address, or the first half of an IPv6 address; relayed connections count as one host each. */
function networkOf(connection: Connection): string {
  const host = hostOf(connection.remoteAddr.toString())
  if (host === null) return connection.id
  return host.includes(':') ? host.split(':').slice(0, 4).join(':') : host
}
