/** The signed verdicts that a node knows, one file each in `verdicts/`, so that a restart forgets none of them. */
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { sha3_256 } from '@gym-node/wire'
import { NodeError } from '../errors.ts'
import { MAX_VERDICTS_KEPT } from '../validate/defaults.ts'
import { openVerdict, type AuditVerdict } from '../validate/verdict-message.ts'
import { writeFileDurably } from './atomic.ts'

/** A verdict and the bytes that prove it. */
export interface SignedVerdict {
  readonly verdict: AuditVerdict
  readonly signed: Uint8Array
}

/** Keeps verdicts, the newest ones by round. */
export class VerdictStore {
  readonly #folder: string

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** Opens `verdicts/` in the state folder at `root`. */
  static async open(root: string): Promise<VerdictStore> {
    const folder = join(root, 'verdicts')
    await mkdir(folder, { recursive: true, mode: 0o700 })
    return new VerdictStore(folder)
  }

  /** The verdicts on disk, oldest round first. A file whose signatures do not hold is handed to `onBad` and left out. */
  async load(onBad: (file: string, error: unknown) => void): Promise<SignedVerdict[]> {
    const kept: SignedVerdict[] = []
    for (const { name } of await this.#files()) {
      const file = join(this.#folder, name)
      try {
        // Looked at before it is read: whatever lies in this folder, a start takes bounded memory.
        if ((await stat(file)).size > MAX_FILE_BYTES)
          throw new NodeError('BAD_REQUEST', 'too large for a verdict')
        const signed = await readFile(file)
        kept.push({ signed, verdict: openVerdict(signed) })
      } catch (error) {
        onBad(file, error)
      }
    }
    return kept
  }

  /** Makes a verdict durable, and drops those of the oldest rounds beyond the limit. */
  async keep({ verdict, signed }: SignedVerdict): Promise<void> {
    await writeFileDurably(join(this.#folder, fileName(verdict)), signed, 0o644)
    const files = await this.#files()
    for (const { name } of files.slice(0, Math.max(0, files.length - MAX_VERDICTS_KEPT)))
      await rm(join(this.#folder, name), { force: true })
  }

  async #files(): Promise<{ name: string; round: number }[]> {
    const names = await readdir(this.#folder)
    return names
      .flatMap((name) => {
        const round = /^round-(\d{1,15})-[0-9a-f]{16}\.json$/.exec(name)?.[1]
        return round === undefined ? [] : [{ name, round: Number(round) }]
      })
      .sort((left, right) => left.round - right.round || (left.name < right.name ? -1 : 1))
  }
}

/** Bytes of the largest verdict and some. */
const MAX_FILE_BYTES = 1024 * 1024

/** One name for each round, worker and validator; the names of peers are strangers' words and stay out of paths. */
function fileName({ round, worker_id: worker, validator_id: validator }: AuditVerdict): string {
  const about = Buffer.from(sha3_256(Buffer.from(JSON.stringify([worker, validator])))).toString('hex')
  return `round-${round}-${about.slice(0, 16)}.json`
}
