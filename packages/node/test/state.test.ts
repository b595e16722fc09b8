/** The state folder: lock, version, atomic writes, identity files, shared state and checkpoint, and damage to each. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { sha3_256 } from '@gym-node/wire'
import { NodeError, type NodeErrorCode } from '../src/errors.ts'
import { removeUnfinished, writeFileDurably } from '../src/state/atomic.ts'
import { loadCheckpoint, saveCheckpoint } from '../src/state/checkpoint.ts'
import { openStateFolder } from '../src/state/folder.ts'
import { loadOrCreateIdentity } from '../src/state/identity-files.ts'
import { claimForJob } from '../src/state/job-file.ts'
import { initialState, JobState, layoutSha3 } from '../src/state/job-state.ts'
import { decodeSharedState, encodeSharedState, type SharedState } from '../src/state/shared-state.ts'

let folder = ''
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gym-state-'))
})
after(() => rm(folder, { recursive: true, force: true }))

function failsWith(code: NodeErrorCode, ...parts: string[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof NodeError, String(error))
    assert.equal(error.code, code)
    for (const part of parts)
      assert.ok(error.message.includes(part), `"${error.message}" does not say "${part}"`)
    return true
  }
}

const AVERAGE = { kind: 'average', learningRate: 1, momentum: 0 } as const
const STATE: SharedState = {
  round: 3,
  baseSha256: 'ab',
  layoutSha3: 'cd',
  adapterScale: 2,
  adapter: Float32Array.of(1, -2.5, 1e-30),
  momentum: Float32Array.of(0.5),
}

describe('the folder', () => {
  it('says that it cannot be written to when it was removed meanwhile', async () => {
    const gone = join(folder, 'gone', 'sequence')
    await assert.rejects(
      writeFileDurably(gone, '1'),
      failsWith('STATE_UNWRITABLE', gone, 'ENOENT', 'its folder was removed'),
    )
  })

  it('is of one job once it holds a vote or a checkpoint, and of any before', async () => {
    const opened = await openStateFolder(join(folder, 'jobs'))
    const { paths } = opened
    await claimForJob(paths, 'tpyo')
    await claimForJob(paths, 'typo')
    await writeFile(paths.view, 'x')
    await claimForJob(paths, 'typo')
    await assert.rejects(
      claimForJob(paths, 'other'),
      failsWith('STATE_MISMATCH', '"typo"', '"other"', 'identity'),
    )
    opened.close()
  })

  it('is private, and refuses a second opener with the pid of the first until it is closed', async () => {
    const root = join(folder, 'locked')
    const first = await openStateFolder(root)
    assert.equal((await stat(root)).mode & 0o777, 0o700)
    await assert.rejects(openStateFolder(root), failsWith('STATE_LOCKED', `pid ${process.pid}`))
    first.close()
    first.close()
    const second = await openStateFolder(root)
    second.close()
  })

  it('can be opened at once after its holder was killed', async () => {
    const root = join(folder, 'killed')
    const module = new URL('../src/state/folder.ts', import.meta.url).href
    const holder = spawn(
      process.execPath,
      [
        '--conditions=gym-source',
        '--input-type=module',
        '-e',
        `const { openStateFolder } = await import('${module}'); await openStateFolder(${JSON.stringify(root)}); console.log('held'); setInterval(() => {}, 1000)`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    await new Promise((resolve) => holder.stdout.once('data', resolve))
    await assert.rejects(openStateFolder(root), failsWith('STATE_LOCKED', `pid ${holder.pid ?? 0}`))
    const ended = new Promise((resolve) => holder.once('close', resolve))
    holder.kill('SIGKILL')
    await ended
    const mine = await openStateFolder(root)
    mine.close()
  })

  it('refuses a layout of a newer version and keeps it as it is', async () => {
    const root = join(folder, 'version')
    await mkdir(root)
    await writeFile(join(root, 'version'), '3\n')
    await assert.rejects(openStateFolder(root), failsWith('STATE_VERSION', 'version 3', 'versions 1 to 2'))
    assert.equal(await readFile(join(root, 'version'), 'utf8'), '3\n')
  })

  it('refuses a path that is a file', async () => {
    const path = join(folder, 'file')
    await writeFile(path, '')
    await assert.rejects(openStateFolder(path), failsWith('STATE_UNWRITABLE', path))
  })

  it('sweeps what a crash left half written', async () => {
    const root = join(folder, 'swept')
    const first = await openStateFolder(root)
    first.close()
    await writeFile(join(root, 'checkpoint.unfinished'), 'x')
    await mkdir(join(root, 'identity.unfinished'))
    await writeFile(join(root, 'deltas', 'round-1.delta.unfinished'), 'x')
    const second = await openStateFolder(root)
    assert.deepEqual(
      (await readdir(root)).filter((name) => name.includes('unfinished')),
      [],
    )
    assert.deepEqual(await readdir(join(root, 'deltas')), [])
    second.close()
  })
})

describe('atomic writes', () => {
  it('replace the whole file or leave the old one', async () => {
    const path = join(folder, 'atomic')
    await writeFileDurably(path, 'old')
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('half')
      throw new Error('the source broke')
    }
    await assert.rejects(writeFileDurably(path, broken()), /the source broke/)
    assert.equal(await readFile(path, 'utf8'), 'old')
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.startsWith('atomic')),
      ['atomic'],
    )
    assert.equal(await writeFileDurably(path, Buffer.from('newer')), 5)
    assert.equal(await readFile(path, 'utf8'), 'newer')
  })

  it('say that the disk is full', async () => {
    // /dev/full is Linux's device that answers every write with ENOSPC; a folder of it cannot be renamed into.
    const { asStateError } = await import('../src/state/atomic.ts')
    const error = await writeFile('/dev/full', 'x').then(
      () => null,
      (thrown: unknown) => thrown,
    )
    assert.throws(
      () => {
        throw asStateError(error, '/dev/full')
      },
      failsWith('STATE_FULL', '/dev/full'),
    )
  })
})

describe('identity files', () => {
  it('are made once, with mode 0600, and give the same peer id again', async () => {
    const at = join(folder, 'identity')
    const first = await loadOrCreateIdentity(at)
    const second = await loadOrCreateIdentity(at)
    assert.equal(first.created, true)
    assert.equal(second.created, false)
    assert.equal(second.identity.peerId, first.identity.peerId)
    assert.equal((await stat(at)).mode & 0o777, 0o700)
    for (const name of await readdir(at)) assert.equal((await stat(join(at, name))).mode & 0o777, 0o600)
  })

  it('are refused when others can read them, and when they hold no seed', async () => {
    const at = join(folder, 'exposed')
    await loadOrCreateIdentity(at)
    const seed = join(at, 'ed25519.seed')
    await chmod(seed, 0o644)
    await assert.rejects(loadOrCreateIdentity(at), failsWith('IDENTITY_EXPOSED', '644', `chmod 600 ${seed}`))
    await chmod(seed, 0o600)
    await writeFile(seed, 'abc\n')
    await assert.rejects(
      loadOrCreateIdentity(at),
      failsWith('IDENTITY_INVALID', '3 characters', '64 hex digits'),
    )
    await rm(seed)
    await assert.rejects(loadOrCreateIdentity(at), failsWith('IDENTITY_INVALID', seed))
  })
})

describe('the shared state', () => {
  it('survives its bytes, and equal states have equal bytes', () => {
    const bytes = encodeSharedState(STATE)
    assert.deepEqual(decodeSharedState(bytes), STATE)
    assert.deepEqual(encodeSharedState({ ...STATE }), bytes)
    assert.notDeepEqual(encodeSharedState({ ...STATE, round: 4 }), bytes)
  })

  it('is refused at every length but its own, and with any header that is not its own', () => {
    const bytes = encodeSharedState(STATE)
    for (let length = 0; length < bytes.length; length++) {
      assert.throws(() => decodeSharedState(bytes.subarray(0, length)), failsWith('STATE_CORRUPT'))
    }
    assert.throws(() => decodeSharedState(Buffer.concat([bytes, Buffer.of(0)])), failsWith('STATE_CORRUPT'))
    const other = Buffer.from(bytes)
    other[8] = 9
    assert.throws(() => decodeSharedState(other), failsWith('STATE_CORRUPT', 'version 9'))
  })
})

/** Numbers that are not in order of size, with a negative zero. */
const RESIDUAL = Float32Array.of(1e-9, -0, -3)

describe('the checkpoint', () => {
  it('comes back as it was, and is absent before the first', async () => {
    const path = join(folder, 'checkpoint')
    assert.equal(await loadCheckpoint(path), null)
    await saveCheckpoint(path, { shared: STATE, trainer: Buffer.from('trainer state'), residual: RESIDUAL })
    const loaded = await loadCheckpoint(path)
    assert.deepEqual(loaded?.shared, STATE)
    assert.equal(Buffer.from(loaded.trainer).toString(), 'trainer state')
    assert.deepEqual(loaded.residual, RESIDUAL)
    await saveCheckpoint(path, { shared: STATE, trainer: Buffer.from('trainer state'), residual: null })
    assert.equal((await loadCheckpoint(path))?.residual, null)
  })

  it('is the last one when its writer is killed in the middle of the next, and what is left of that goes', async () => {
    const root = join(folder, 'killed-writer')
    await mkdir(root)
    const path = join(root, 'checkpoint')
    await saveCheckpoint(path, { shared: STATE, trainer: Buffer.from('round 3'), residual: null })
    const module = new URL('../src/state/atomic.ts', import.meta.url).href
    const script = `
      const { writeFileDurably } = await import('${module}')
      setInterval(() => {}, 1000)
      await writeFileDurably(${JSON.stringify(path)}, (async function* () {
        yield Buffer.alloc(100_000, 7)
        console.log('half')
        await new Promise(() => {})
      })())`
    const writer = spawn(process.execPath, ['--conditions=gym-source', '--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const ended = new Promise((resolve) => writer.once('close', resolve))
    await new Promise((resolve) => writer.stdout.once('data', resolve))
    writer.kill('SIGKILL')
    await ended
    assert.ok((await stat(`${path}.unfinished`)).size > 0)
    const loaded = await loadCheckpoint(path)
    assert.deepEqual([loaded?.shared, String(Buffer.from(loaded?.trainer ?? []))], [STATE, 'round 3'])
    await removeUnfinished(root)
    assert.deepEqual(await readdir(root), ['checkpoint'])
  })

  it('is refused when any byte was changed or cut', async () => {
    const path = join(folder, 'damaged')
    await saveCheckpoint(path, { shared: STATE, trainer: Buffer.from('trainer state'), residual: RESIDUAL })
    const good = await readFile(path)
    for (let at = 0; at < good.length; at += 7) {
      const bad = Buffer.from(good)
      bad[at] = (bad[at] ?? 0) ^ 1
      await writeFile(path, bad)
      await assert.rejects(loadCheckpoint(path), failsWith('STATE_CORRUPT', path))
    }
    await writeFile(path, good.subarray(0, good.length - 1))
    await assert.rejects(loadCheckpoint(path), failsWith('STATE_CORRUPT', path))
  })
})

describe('the state of the job', () => {
  const layout = { tensors: [{ name: 'a', shape: [1, 2] as const, offset: 0 }], length: 2 }
  const first = initialState({
    baseSha256: 'base',
    layout,
    adapterScale: 2,
    adapter: Float32Array.of(1, 2),
    outer: AVERAGE,
  })

  function job(installed: SharedState[] = [], adopted: number[] = []): JobState {
    return new JobState({
      state: first,
      outer: AVERAGE,
      install: async (state) => {
        installed.push(state)
      },
      onAdopted: (round) => {
        adopted.push(round)
      },
    })
  }

  it('applies a round after it is durable, and hashes what it hands out', async () => {
    const installed: SharedState[] = []
    const state = job(installed)
    await state.commit(1, Float32Array.of(0.5, -1))
    assert.deepEqual(installed[0]?.adapter, Float32Array.of(1.5, 1))
    assert.equal(state.round, 1)
    assert.deepEqual(state.current().hash, sha3_256(await state.read()))
  })

  it('keeps the old state when the new one cannot be made durable', async () => {
    const state = new JobState({
      state: first,
      outer: AVERAGE,
      install: () => Promise.reject(new Error('disk')),
      onAdopted: () => undefined,
    })
    const before = state.stateSha3
    await assert.rejects(state.commit(1, Float32Array.of(1, 1)), /disk/)
    assert.equal(state.round, 0)
    assert.equal(state.stateSha3, before)
  })

  it('adopts the state of another node, byte for byte', async () => {
    const source = job()
    await source.commit(1, Float32Array.of(0.25, 0.25))
    const adopted: number[] = []
    const target = job([], adopted)
    await target.adopt(await source.read(), source.current())
    assert.equal(target.stateSha3, source.stateSha3)
    assert.equal(target.adapterSha3, source.adapterSha3)
    assert.deepEqual(adopted, [1])
  })

  it('owes what the last counted delta lost, and nothing after another round or a state of the ring', async () => {
    const residuals: (Float32Array | null)[] = []
    const state = new JobState({
      state: first,
      outer: AVERAGE,
      install: async (_state, residual) => {
        residuals.push(residual)
      },
      onAdopted: () => undefined,
    })
    const owed = Float32Array.of(0.25, -0.5)
    await state.commit(1, Float32Array.of(1, 1), owed)
    assert.equal(state.residual, owed)
    await state.commit(2, Float32Array.of(1, 1))
    assert.equal(state.residual, null)
    await state.commit(3, Float32Array.of(1, 1), owed)
    const ahead = job()
    for (const round of [1, 2, 3, 4]) await ahead.commit(round, Float32Array.of(1, 1))
    await state.adopt(await ahead.read(), ahead.current())
    assert.equal(state.residual, null)
    assert.deepEqual(residuals, [owed, null, owed, null])
    assert.throws(() => state.resume(first, new Float32Array(3)), failsWith('STATE_CORRUPT', 'residual'))
  })

  it('refuses bytes that do not match their hash, and a state of another model or adapter', async () => {
    const state = job()
    const bytes = await job().read()
    await assert.rejects(
      state.adopt(bytes, { round: 0, hash: sha3_256(Buffer.from('x')) }),
      failsWith('STATE_CORRUPT'),
    )
    const refused = async (change: Partial<SharedState>, part: string): Promise<void> => {
      const other = encodeSharedState({ ...first, ...change })
      await assert.rejects(
        state.adopt(other, { round: 0, hash: sha3_256(other) }),
        failsWith('STATE_MISMATCH', part),
      )
    }
    await refused({ baseSha256: 'another' }, 'another')
    await refused({ layoutSha3: layoutSha3({ ...layout, tensors: [] }) }, 'lora_rank')
    await refused({ momentum: new Float32Array(2) }, 'outer')
    await refused({ adapterScale: 4 }, 'lora_alpha')
    assert.equal(state.round, 0)
    assert.throws(
      () => state.resume({ ...first, adapterScale: 1 }, null),
      failsWith('STATE_MISMATCH', 'by 1'),
    )
  })

  it('goes on from a state that began before the adapter scale was kept, and leaves it as it is', async () => {
    const old = initialState({ baseSha256: 'base', layout, adapter: Float32Array.of(1, 2), outer: AVERAGE })
    const state = job()
    state.resume(decodeSharedState(encodeSharedState({ ...old, round: 5 })), null)
    await state.commit(6, Float32Array.of(1, 1))
    const written = decodeSharedState(await state.read())
    assert.deepEqual([written.round, written.adapterScale], [6, undefined])
  })
})
