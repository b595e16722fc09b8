/**
 * Looks into the state folder of a daemon that has just been killed, before anything repairs it, and compares it with
 * all that was seen of the ring before: nothing that was committed, signed or recorded may be gone or different.
 */
import assert from 'node:assert/strict'
import { createReadStream, existsSync } from 'node:fs'
import { copyFile, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { sha3_256, verifyDelta } from '@gym-node/wire'
import { loadCheckpoint } from '../../packages/node/src/state/checkpoint.ts'
import { statePaths } from '../../packages/node/src/state/folder.ts'
import { f32Bytes } from '../../packages/node/src/state/shared-state.ts'
import { readRoundRecords } from '../../packages/node/src/validate/round-records.ts'

/** What is known of one daemon's folder. */
interface Folder {
  readonly root: string
  /** Body hash by file name, of every delta ever seen in it; a superseded one keeps its hash under another name. */
  readonly deltas: Map<string, string>
  readonly historyRounds: Set<number>
  readonly sequences: Set<number>
  peerId: string | null
  lastRound: number
}

/** Remembers a ring and checks folders against it. Every method throws an AssertionError that names what is wrong. */
export class StateAudit {
  readonly #folders: readonly Folder[]
  /** Adapter hash by committed round, whoever said so. */
  readonly #adapters = new Map<number, string>()
  /** Commitments (hex) that a committed round counted, by peer. */
  readonly #counted = new Map<string, Set<string>>()
  checks = 0

  constructor(roots: readonly string[]) {
    this.#folders = roots.map((root) => ({
      root,
      deltas: new Map(),
      historyRounds: new Set(),
      sequences: new Set(),
      peerId: null,
      lastRound: 0,
    }))
  }

  /** Different rounds that were committed. */
  get rounds(): number {
    return this.#adapters.size
  }

  /** Adapter hash by committed round. */
  get adapters(): ReadonlyMap<number, string> {
    return this.#adapters
  }

  /** Signed deltas that lie in the folders. */
  get deltas(): number {
    return this.#folders.reduce((sum, { deltas }) => sum + deltas.size, 0)
  }

  /** Takes in a commit that daemon `index` has logged: from then on it must be on its disk. */
  committed(index: number, round: number, adapterSha3: string): void {
    this.#agree(round, adapterSha3, `the log of node ${index}`)
    const folder = this.#folder(index)
    folder.lastRound = Math.max(folder.lastRound, round)
  }

  /** Checks the folder of daemon `index`, which does not run; `written` are the delta files that it has logged. */
  async check(index: number, written: readonly string[]): Promise<void> {
    const folder = this.#folder(index)
    const paths = statePaths(folder.root)
    if (!existsSync(paths.root)) return
    await this.#checkpoint(index, folder)
    await this.#records(index, folder)
    await this.#deltas(folder, written)
    await this.#history(folder)
    this.checks++
  }

  /** At the end: every delta that any committed round counted lies on the disk of its author. */
  checkCounted(): void {
    for (const { peerId, deltas, root } of this.#folders) {
      const hashes = new Set(deltas.values())
      for (const commitment of this.#counted.get(peerId ?? '') ?? [])
        assert.ok(hashes.has(commitment), `${root} lost the counted delta ${commitment}`)
    }
  }

  async #checkpoint(index: number, folder: Folder): Promise<void> {
    const checkpoint = await loadCheckpoint(statePaths(folder.root).checkpoint)
    const round = checkpoint?.shared.round ?? 0
    assert.ok(
      round >= folder.lastRound,
      `node ${index} committed round ${folder.lastRound}, its checkpoint is of round ${round}`,
    )
    if (checkpoint === null || round === 0) return
    this.#agree(round, hex(sha3_256(f32Bytes(checkpoint.shared.adapter))), `the checkpoint of node ${index}`)
    folder.lastRound = round
  }

  async #records(index: number, folder: Folder): Promise<void> {
    for (const record of await readRoundRecords(statePaths(folder.root).traces)) {
      this.#agree(record.round, record.adapter_after, `the record of node ${index}`)
      for (const { peer_id: peer, commitment } of record.contributions) {
        if (commitment === null) continue
        const counted = this.#counted.get(peer) ?? new Set()
        this.#counted.set(peer, counted.add(commitment))
      }
    }
  }

  async #deltas(folder: Folder, written: readonly string[]): Promise<void> {
    const { deltas } = statePaths(folder.root)
    const names = (await readdir(deltas).catch(() => [])).filter((name) => name.endsWith('.delta'))
    const before = new Set(folder.deltas.values())
    const now = new Map<string, string>()
    for (const name of names) {
      const verdict = await verifyDelta(createReadStream(join(deltas, name)))
      const failed = verdict.checks.filter(({ ok }) => !ok).map((check) => check.name)
      assert.deepEqual(failed, [], `${name} in ${folder.root} does not verify`)
      assert.ok(verdict.bodySha3 !== null && verdict.metadata !== null)
      const hash = hex(verdict.bodySha3)
      now.set(name, hash)
      const { worker_id: peerId, sequence } = verdict.metadata
      folder.peerId ??= peerId
      assert.equal(peerId, folder.peerId, `${folder.root} changed its identity`)
      if (before.has(hash)) continue
      assert.ok(!folder.sequences.has(sequence), `sequence ${sequence} was used twice in ${folder.root}`)
      folder.sequences.add(sequence)
    }
    const found = new Set(now.values())
    for (const [name, hash] of folder.deltas)
      assert.ok(found.has(hash), `the signed delta ${name} (${hash}) is gone from ${folder.root}`)
    for (const name of written) assert.ok(now.has(name), `${name} was logged as written and is not there`)
    folder.deltas.clear()
    for (const [name, hash] of now) folder.deltas.set(name, hash)
    const next = Number(await readFile(statePaths(folder.root).sequence, 'utf8').catch(() => '0'))
    assert.ok(
      [...folder.sequences].every((sequence) => sequence < next),
      `${folder.root} would use a sequence number again: next is ${next}`,
    )
  }

  /** The history as SQLite finds it after the crash; in a copy, so that the daemon does its own recovery. */
  async #history(folder: Folder): Promise<void> {
    const names = await readdir(folder.root)
    const aside = names.filter((name) => /^history\.sqlite\.(?!unfinished)/.test(name))
    assert.deepEqual(aside, [], `${folder.root} had to set its history aside`)
    if (!names.includes('history.sqlite')) return
    const copy = await mkdtemp(join(tmpdir(), 'gym-history-'))
    try {
      for (const name of names.filter((each) => each.startsWith('history.sqlite')))
        await copyFile(join(folder.root, name), join(copy, name))
      const database = new DatabaseSync(join(copy, 'history.sqlite'))
      const sound = database.prepare('PRAGMA integrity_check').get()
      assert.deepEqual(Object.values(sound ?? {}), ['ok'], `the history of ${folder.root}`)
      const hasTable =
        database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'round'").get() !== undefined
      const rounds = hasTable
        ? database
            .prepare('SELECT x FROM round ORDER BY x')
            .all()
            .map((row) => Number(row['x']))
        : []
      database.close()
      assert.ok(
        (rounds.at(-1) ?? 0) <= folder.lastRound,
        `${folder.root} shows a round that is not committed`,
      )
      const shown = new Set(rounds)
      for (const round of folder.historyRounds)
        assert.ok(shown.has(round), `round ${round} is gone from the history of ${folder.root}`)
      for (const round of rounds) folder.historyRounds.add(round)
    } finally {
      await rm(copy, { recursive: true, force: true })
    }
  }

  #agree(round: number, adapterSha3: string, who: string): void {
    const known = this.#adapters.get(round) ?? adapterSha3
    assert.equal(adapterSha3, known, `round ${round} has two adapters; the other one is in ${who}`)
    this.#adapters.set(round, adapterSha3)
  }

  #folder(index: number): Folder {
    const folder = this.#folders[index]
    assert.ok(folder !== undefined)
    return folder
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
