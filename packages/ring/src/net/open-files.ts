/** How many connections the limit of open files of this process allows: without a file left, no state can be written. */
import { readFileSync } from 'node:fs'
import { FEWEST_CONNECTIONS, FILES_BESIDE_CONNECTIONS } from './defaults.ts'

/** The soft limit of open files in the text of Linux' `/proc/self/limits`; null when it names none. Pure. */
export function openFilesLimit(limits: string): number | null {
  const limit = /^Max open files +(\d+) /m.exec(limits)?.[1]
  return limit === undefined ? null : Number(limit)
}

/** As many of the `wanted` connections as leave enough files for everything else. Pure. */
export function affordableConnections(wanted: number, files: number | null): number {
  if (files === null) return wanted
  return Math.min(wanted, Math.max(FEWEST_CONNECTIONS, files - FILES_BESIDE_CONNECTIONS))
}

/** The limit of this process, which Node has raised as far as it may; null where it cannot be read. */
export function ownOpenFilesLimit(): number | null {
  try {
    return openFilesLimit(readFileSync('/proc/self/limits', 'utf8'))
  } catch {
    // Not Linux: macOS and Windows have limits far beyond what is used here.
    return null
  }
}
