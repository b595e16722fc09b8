/**
 * The plan of a crash soak: who is killed, when, and when it comes back. A pure function of the seed, so a failing run
 * is repeated by its seed; moments hang on what a daemon has just done, not on the clock.
 */
import { seededRandom } from '../../packages/node/test/observe-fixtures.ts'

/** What a victim has just said when its last milliseconds begin. */
export const MOMENTS = ['starting', 'listening', 'training', 'written', 'reducing', 'committed'] as const

/** One of MOMENTS. */
export type Moment = (typeof MOMENTS)[number]

/** One crash. */
export interface Crash {
  /** Indices of the daemons that get SIGKILL together; all of them is a power failure. */
  readonly victims: readonly number[]
  /** `engine` kills the engine process of the first victim instead: its daemon must start another. */
  readonly target: 'daemon' | 'engine'
  /** The first victim's next line of this kind starts the delay. */
  readonly moment: Moment
  /** From that line to the signal, ms. */
  readonly delayMs: number
  /** Whether the survivors may commit a round before the victims come back. */
  readonly isBackAtOnce: boolean
}

/** Longest delay after the moment, ms: about the time that a small round takes, so that all of it is hit. */
const MAX_DELAY_MS = 250

/** Of a hundred crashes: those that hit the engine only, all daemons, or two of them. */
const ENGINE_SHARE = 0.08
const ALL_SHARE = 0.12
const TWO_SHARE = 0.15

/** An endless plan for `nodes` daemons. */
export function* crashPlan(seed: number, nodes: number): Generator<Crash, never> {
  const random = seededRandom(seed)
  const below = (count: number): number => Math.floor(random() * count)
  for (;;) {
    const order = shuffled(nodes, below)
    const draw = random()
    const isEngine = draw < ENGINE_SHARE
    const count =
      isEngine || draw >= ENGINE_SHARE + ALL_SHARE + TWO_SHARE
        ? 1
        : draw < ENGINE_SHARE + ALL_SHARE
          ? nodes
          : Math.min(2, nodes)
    yield {
      victims: order.slice(0, count),
      target: isEngine ? 'engine' : 'daemon',
      moment: MOMENTS[below(MOMENTS.length)] ?? 'training',
      delayMs: below(MAX_DELAY_MS),
      isBackAtOnce: random() < 0.5,
    }
  }
}

function shuffled(count: number, below: (count: number) => number): number[] {
  const order = Array.from({ length: count }, (_, index) => index)
  for (let last = count - 1; last > 0; last--) {
    const other = below(last + 1)
    const moved = order[last] ?? 0
    order[last] = order[other] ?? 0
    order[other] = moved
  }
  return order
}
