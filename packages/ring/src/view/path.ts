/** The views that a node has been led through, with their proofs: what it shows to those who have missed some. */
import type { MachineState } from './state.ts'
import { MAX_PATH, type Proven } from './messages.ts'

/** Members of all remembered views together: two of the largest views there are, or many small ones, fit one message. */
const MAX_PATH_MEMBERS = 512

/** The path with one more view; what is too old for the limits is forgotten, never the last two. */
export function lengthen(path: readonly Proven[], news: readonly Proven[]): Proven[] {
  const last = news.at(-1)
  const first = news[0]?.value
  if (last === undefined || first === undefined) return [...path]
  // Views before a gap lead nowhere: the next is proven by what follows it, not by them.
  const kept = path.filter(({ value }) => value.ringId === last.value.ringId && value.epoch < first.epoch)
  const isWhole = kept.length === 0 || kept.at(-1)?.value.epoch === first.epoch - 1
  const whole = [...(isWhole ? kept : []), ...news].slice(-MAX_PATH)
  let members = 0
  let from = whole.length
  while (from > 0) {
    members += whole[from - 1].value.members.length
    if (members > MAX_PATH_MEMBERS && whole.length - from >= 2) break
    from -= 1
  }
  return whole.slice(from)
}

/** What proves this node's view to a peer in the view of `epoch`, or in none; as well as this node can. */
export function pathFor(s: MachineState, epoch: number | null): Proven[] {
  const { path } = s.durable
  if (epoch === null) return path.slice(-2)
  const missed = path.filter(({ value }) => value.epoch > epoch)
  return missed[0]?.value.epoch === epoch + 1 ? missed : [...path]
}
