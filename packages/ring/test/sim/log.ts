/** The state that simulated nodes share: the results of all rounds, as a chain of which every link names all before. */
import { hash } from 'node:crypto'

/** A state: the round it is after, its name, and the state before. */
export interface Log {
  readonly round: number
  readonly hash: string
  readonly before: Log | null
}

/** Before the first round. */
export const EMPTY_LOG: Log = { round: 0, hash: digest('empty'), before: null }

/** The state after one more result. */
export function append(log: Log, result: string): Log {
  return { round: log.round + 1, hash: digest(`${log.hash} ${result}`), before: log }
}

/** The state as it was after an earlier round. */
export function at(log: Log, round: number): Log {
  let found = log
  while (found.round > round && found.before !== null) found = found.before
  return found
}

/** A name for a text. */
export function digest(text: string): string {
  return hash('sha256', text)
}
