/** Whether others can dial this node, judged from what they answered, and what its operator can do about it. Pure. */
import { multiaddr } from '@multiformats/multiaddr'
import { isPrivateHost } from './addresses.ts'

/** Every verdict, for metrics and schemas. */
export const REACHABILITIES = ['unknown', 'loopback', 'public', 'local', 'relayed', 'closed'] as const

/**
 * `unknown`: nobody has been asked yet. `loopback`: listens on this machine only. `public`: dialled from outside.
 * `local`: dialled, but only within a private network. `relayed`: not dialled, others come through a relay.
 * `closed`: others cannot open a connection to this node at all.
 */
export type Reachability = (typeof REACHABILITIES)[number]

/** What one peer said after it tried to dial back. */
export interface DialBack {
  /** this node's address as the peer sees it: an IP address */
  readonly observedHost: string
  readonly reached: boolean
}

/** What the verdict is made from. */
export interface ReachFacts {
  /** multiaddrs that this node listens on, with their real ports */
  readonly listening: readonly string[]
  /** the last answer of each peer that was asked */
  readonly answers: readonly DialBack[]
  /** relays that hold a place for this node */
  readonly reservations: number
  /** peers see dials from one port under several: a NAT through which nobody can punch a hole */
  readonly portVaries?: boolean
}

/** A verdict with one sentence of what was seen and one of what to do; the latter is empty when all is well. */
export interface ReachVerdict {
  readonly state: Reachability
  readonly seen: string
  readonly advice: string
}

/** Judges. Most of the peers must agree, so that one that lies cannot make a verdict among three or more. */
export function judgeReachability({
  listening,
  answers,
  reservations,
  portVaries = false,
}: ReachFacts): ReachVerdict {
  const hosts = listening.map(hostOf).filter((host) => host !== null)
  if (hosts.length > 0 && hosts.every(isLoopback)) {
    return verdict(
      'loopback',
      'listens on loopback only',
      'for peers on other machines set ring.listen to an address that they reach, such as /ip4/0.0.0.0/tcp/4160',
    )
  }
  const yes = answers.filter(({ reached }) => reached)
  const places = `${reservations} relay${reservations === 1 ? '' : 's'}`
  if (yes.length > 0 && 2 * yes.length >= answers.length) {
    const tally = `dialled back by ${yes.length} of ${answers.length} peers`
    if (yes.some(({ observedHost }) => !isPrivateHost(observedHost))) return verdict('public', tally, '')
    return verdict(
      'local',
      `${tally}, all of them in a private network`,
      reservations > 0
        ? ''
        : 'peers elsewhere need a forwarded port and network.announce, or a relay in network.relays',
    )
  }
  const port = listening.map(portOf).find((value) => value !== null) ?? 'of ring.listen'
  if (reservations > 0) {
    return verdict(
      'relayed',
      `not dialled directly, ${places} hold a place`,
      portVaries
        ? `this NAT gives every destination another port, so rounds with others behind NAT stay on the relay: forward TCP port ${port} and name it in network.announce`
        : '',
    )
  }
  if (answers.length === 0) return verdict('unknown', 'no peer has tried to dial back yet', '')
  return verdict(
    'closed',
    `${answers.length} peer${answers.length === 1 ? '' : 's'} could not dial back`,
    `open TCP port ${port} in firewall and router and name it in network.announce, or name a relay in network.relays`,
  )
}

/**
 * Under which addresses this node can be dialled: of each family the one that more than half of the peers name which
 * have dialled back, so that one that lies cannot have this node send others to a third party.
 */
export function seenHosts(answers: readonly DialBack[]): string[] {
  const reached = answers.filter((answer) => answer.reached).map(({ observedHost }) => observedHost)
  const families = Map.groupBy(reached, (host) => host.includes(':'))
  return [...families.values()].flatMap((hosts) => {
    const most = hosts.find((host) => 2 * hosts.filter((other) => other === host).length > hosts.length)
    return most === undefined ? [] : [most]
  })
}

/** Whether an IP address is of this machine only. */
export function isLoopback(host: string): boolean {
  return host.startsWith('127.') || host === '::1'
}

/** The IP address or name in a multiaddr, or null; of a relayed address null, as it is the relay's. */
export function hostOf(address: string): string | null {
  const parts = multiaddr(address).getComponents()
  if (parts.some(({ name }) => name === 'p2p-circuit')) return null
  return parts.find(({ name }) => /^(ip4|ip6|dns|dns4|dns6)$/.test(name))?.value ?? null
}

/** The TCP port in a direct multiaddr, or null. */
export function portOf(address: string): number | null {
  const parts = multiaddr(address).getComponents()
  if (parts.some(({ name }) => name === 'p2p-circuit')) return null
  const port = parts.find(({ name }) => name === 'tcp')?.value
  return port === undefined ? null : Number(port)
}

function verdict(state: Reachability, seen: string, advice: string): ReachVerdict {
  return { state, seen, advice }
}
