/** Version and build line of this package, for `--version`, logs, status and file metadata. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)

/** Version in package.json, such as `0.1.0`. */
export const VERSION: string = readVersion()

/** One line that identifies the build: version, commit when known, Node, platform. */
export function buildLine(): string {
  return `gym-node ${VERSION} (${readCommit()}, Node ${process.versions.node}, ${process.platform}-${process.arch})`
}

function readVersion(): string {
  const found: unknown = require('../package.json')
  if (
    typeof found === 'object' &&
    found !== null &&
    'version' in found &&
    typeof found.version === 'string'
  ) {
    return found.version
  }
  throw new Error('package.json has no version')
}

/** `build <commit>` when the published build wrote it down, else `source`. */
function readCommit(): string {
  try {
    return `build ${readFileSync(new URL('./commit.txt', import.meta.url), 'utf8').trim()}`
  } catch {
    return 'source' // a checkout has no build; the commit is git's to tell
  }
}
