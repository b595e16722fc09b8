/** What a NAT makes of one local port, judged from what several peers see of it. Pure. */

/** One peer sees a connection that was dialled from `localPort` at this address. */
export interface Sighting {
  readonly localPort: number
  readonly host: string
  readonly port: number
}

/** An outside address of a local port. */
export interface Outside {
  readonly host: string
  readonly port: number
}

/** A local port and its outside addresses: one for each family of addresses. */
export interface Mapping {
  readonly localPort: number
  readonly outside: readonly Outside[]
}

/**
 * The mapping that most who saw a port agree on; of several ports the one that most have seen, then the one seen last.
 * Null when nobody has seen any, or when a NAT gives every destination another port (RFC 5382 forbids it, some do):
 * then nobody can know where to knock.
 */
export function agreedMapping(sightings: readonly Sighting[]): Mapping | null {
  const byPort = Map.groupBy(sightings, ({ localPort }) => localPort)
  let best: Mapping | null = null
  let most = 0
  for (const [localPort, seen] of byPort) {
    const families = Map.groupBy(seen, ({ host }) => host.includes(':'))
    const outside = [...families.values()].map(agreed).filter((address) => address !== null)
    if (outside.length === 0 || seen.length < most) continue
    best = { localPort, outside }
    most = seen.length
  }
  return best
}

/** The address that more than half name. */
function agreed(seen: readonly Sighting[]): Outside | null {
  const votes = [...Map.groupBy(seen, ({ host, port }) => `${host} ${port}`).values()]
  const winner = votes.find((named) => 2 * named.length > seen.length)?.[0]
  return winner === undefined ? null : { host: winner.host, port: winner.port }
}
