/** What a process and its children cost, read from /proc (Linux only): CPU time and memory. */
import { readdirSync, readFileSync } from 'node:fs'

/** A process tree at one moment. */
export interface ProcessCost {
  readonly processes: number
  /** User and system time since their start, seconds. */
  readonly cpuSeconds: number
  /** Memory that is theirs, pages shared with others counted by their share (PSS), bytes. */
  readonly pssBytes: number
  /** Resident memory, shared pages counted in full, bytes. */
  readonly rssBytes: number
}

/** Clock ticks in a second in /proc/<pid>/stat: USER_HZ, which is 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100
const KIB = 1024

/** Cost of `pid` and all its descendants. */
export function processCost(pid: number): ProcessCost {
  const all = descendants(pid)
  let cpuSeconds = 0
  let pssBytes = 0
  let rssBytes = 0
  for (const each of all) {
    // Fields 14 and 15 count from 1; the name, field 2, is in parentheses and may hold spaces.
    const fields = readFileSync(`/proc/${each}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    cpuSeconds += (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
    const memory = readFileSync(`/proc/${each}/smaps_rollup`, 'utf8')
    pssBytes += KIB * Number(/^Pss: +(\d+)/m.exec(memory)?.[1])
    rssBytes += KIB * Number(/^Rss: +(\d+)/m.exec(memory)?.[1])
  }
  return { processes: all.length, cpuSeconds, pssBytes, rssBytes }
}

function descendants(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8')
      .trim()
      .split(/\s+/)
      .filter(Boolean)
      .map(Number),
  )
  return [pid, ...children.flatMap(descendants)]
}
