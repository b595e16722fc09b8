/** Why a graph may not open on Linux although there is memory: a process may have only so many mappings of files. */
import { readFile } from 'node:fs/promises'

/** Share of the limit from which a failure is put down to it: the runtime asks for several at a time. */
const NEARLY = 0.9

/** What to do where this process has nearly as many mappings as the system allows; empty anywhere else. */
export async function mappingAdvice(): Promise<string> {
  try {
    const limit = Number(await readFile('/proc/sys/vm/max_map_count', 'utf8'))
    const maps = await readFile('/proc/self/maps', 'utf8')
    return adviceFor(maps.split('\n').length, limit)
  } catch {
    // Not Linux: there is no such limit to name.
    return ''
  }
}

/** The advice for so many mappings of so many. */
export function adviceFor(mappings: number, limit: number): string {
  if (!(mappings >= NEARLY * limit)) return ''
  return `; the process has ${mappings} memory mappings and vm.max_map_count allows ${limit}: training maps every expert's matrices twice, so raise it, e.g. to ${4 * limit} (sysctl -w vm.max_map_count=${4 * limit})`
}
