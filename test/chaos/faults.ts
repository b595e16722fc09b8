/** What happens to a ring of processes, as a list. Each fault says whom it takes out, and how it passes. */
import { PEER_TIMEOUT_MS, sleep, type ChaosRing } from './chaos-ring.ts'

/** A fault that has struck. */
export interface Strike {
  /** nodes that cannot take part until `mend` */
  readonly down: readonly number[]
  /** ms until the others can know */
  readonly detectMs: number
  /** makes it pass */
  readonly mend: () => Promise<void>
}

export interface ChaosFault {
  readonly name: string
  readonly needsNamespaces?: boolean
  readonly minSize?: number
  strike(ring: ChaosRing): Promise<Strike>
}

const nothing = async (): Promise<void> => undefined
const harmless: Strike = { down: [], detectMs: 0, mend: nothing }

/** SIGKILL, and a new process later. */
async function kill(ring: ChaosRing, victims: readonly number[]): Promise<Strike> {
  await Promise.all(victims.map((node) => ring.processes.kill(node)))
  const mend = async (): Promise<void> => {
    // One after another: each finds the ring through those that run when it starts.
    for (const node of victims) await ring.processes.start(node)
  }
  return { down: victims, detectMs: 0, mend }
}

/** Nothing passes between the two sides; the smaller one (or, of two halves, both) can only wait. */
function part(ring: ChaosRing, side: readonly number[]): Strike {
  const others = ring.nodes.filter((node) => !side.includes(node))
  for (const a of side) for (const b of others) ring.network?.cut(a, b)
  const mend = async (): Promise<void> => ring.network?.heal()
  return { down: side.length <= others.length ? side : others, detectMs: PEER_TIMEOUT_MS, mend }
}

export const FAULTS: readonly ChaosFault[] = [
  {
    name: 'killed before a round',
    strike: async (ring) => {
      const victim = ring.pick()
      await ring.between(victim)
      return kill(ring, [victim])
    },
  },
  {
    name: 'killed inside a round',
    strike: async (ring) => {
      const victim = ring.pick()
      await ring.inside(victim)
      return kill(ring, [victim])
    },
  },
  {
    name: 'proposer killed inside a round',
    strike: async (ring) => {
      const [victim = 0] = ring.proposers()
      await ring.inside(victim)
      return kill(ring, [victim])
    },
  },
  {
    name: 'proposer killed, then its successor while it proposes',
    minSize: 5,
    strike: async (ring) => {
      const [first = 0, second = 1] = ring.proposers()
      await ring.inside(first)
      await ring.processes.kill(first)
      await sleep(ring.random.below(40))
      const { mend } = await kill(ring, [second])
      return {
        down: [first, second],
        detectMs: 0,
        mend: async () => {
          await mend()
          await ring.processes.start(first)
        },
      }
    },
  },
  {
    name: 'all killed inside a round',
    strike: async (ring) => {
      await ring.inside(ring.pick())
      return kill(ring, ring.nodes)
    },
  },
  {
    name: 'stopped for longer than the timeout',
    strike: async (ring) => {
      const victim = ring.pick()
      await ring.inside(victim)
      ring.processes.signal(victim, 'SIGSTOP')
      const mend = async (): Promise<void> => ring.processes.signal(victim, 'SIGCONT')
      return { down: [victim], detectMs: PEER_TIMEOUT_MS, mend }
    },
  },
  {
    name: 'stopped for less than the timeout',
    strike: async (ring) => {
      const victim = ring.pick()
      await ring.inside(victim)
      ring.processes.signal(victim, 'SIGSTOP')
      await sleep(PEER_TIMEOUT_MS / 2)
      ring.processes.signal(victim, 'SIGCONT')
      return harmless
    },
  },
  {
    name: 'leaves inside a round',
    strike: async (ring) => {
      const victim = ring.pick()
      await ring.inside(victim)
      await ring.processes.leave(victim)
      const mend = async (): Promise<void> => ring.processes.start(victim)
      return { down: [victim], detectMs: 0, mend }
    },
  },
  {
    name: 'a newcomer joins inside a round, and leaves',
    strike: async (ring) => {
      const newcomer = ring.size
      await ring.inside(ring.pick())
      await ring.processes.start(newcomer)
      await ring.processes.untilRoundsGoOn([...ring.nodes, newcomer])
      await ring.processes.leave(newcomer)
      return harmless
    },
  },
  {
    name: 'the caller gives a round up',
    strike: async (ring) => {
      const victim = ring.pick()
      await ring.inside(victim)
      ring.processes.order(victim, 'cancel')
      return harmless
    },
  },
  {
    name: 'a bit flips on the wire',
    strike: async (ring) => {
      const victim = ring.pick()
      await ring.inside(victim)
      ring.processes.order(victim, 'corrupt')
      return harmless
    },
  },
  {
    name: 'the wall clock jumps by an hour',
    strike: async (ring) => {
      ring.processes.order(ring.pick(), 'skew')
      return harmless
    },
  },
  {
    name: 'one cut off from all, silently',
    needsNamespaces: true,
    strike: async (ring) => {
      const victim = ring.pick()
      await ring.inside(victim)
      return part(ring, [victim])
    },
  },
  {
    name: 'parted into halves, silently',
    needsNamespaces: true,
    minSize: 4,
    strike: async (ring) => {
      await ring.inside(ring.pick())
      const half = ring.nodes.filter((_, i) => i < Math.floor(ring.size / 2))
      return part(ring, half)
    },
  },
  {
    name: 'one pair cut, silently',
    needsNamespaces: true,
    minSize: 3,
    strike: async (ring) => {
      const [a, b] = [ring.pick(), ring.pick()]
      const other = a === b ? (a + 1) % ring.size : b
      await ring.inside(a)
      ring.network?.cut(a, other)
      // One of the two is left out; which one is for the ring to say, so only the rest is sure to go on.
      return {
        down: [a, other],
        detectMs: PEER_TIMEOUT_MS,
        mend: async () => ring.network?.heal(),
      }
    },
  },
  {
    name: 'one sends at 20 Mbit/s for a while',
    needsNamespaces: true,
    strike: async (ring) => {
      const victim = ring.pick()
      await ring.inside(victim)
      ring.network?.limit(victim, '20mbit')
      await ring.processes.untilRoundsGoOn(ring.nodes, 1)
      ring.network?.limit(victim, null)
      return harmless
    },
  },
]
