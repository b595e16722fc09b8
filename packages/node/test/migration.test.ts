/** A state folder that an older gym-node left: it is migrated, whenever that is cut off, and a daemon goes on from it. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { sha3_256 } from '@gym-node/wire'
import { DEMO, settings, temporaryFolder, TestDaemon } from '../../../test/e2e/daemon-harness.ts'
import { GOLDEN_MODEL } from './delta-tools-fixtures.ts'
import { loadCheckpoint } from '../src/state/checkpoint.ts'
import { openStateFolder, statePaths } from '../src/state/folder.ts'
import { LAYOUT_VERSION } from '../src/state/migrations.ts'
import { f32Bytes } from '../src/state/shared-state.ts'

const run = promisify(execFile)

/** What gym-node of layout version 1 logged when it wrote vectors/state-1 (see the README there). */
const OLD = {
  peerId: '12D3KooWCpiDxNE71uPfdkqod952PvgjiNudYey8ev4e3hv3413s',
  round: 2,
  adapterSha3: '82131fed9edca7d9734a067b7eb442c448ed85b286227eca75453d0f5350deab',
}

async function oldFolder(folder: string): Promise<string> {
  const root = join(folder, 'state')
  await mkdir(root, { mode: 0o700 })
  await run('tar', [
    '-xzf',
    fileURLToPath(new URL('./vectors/state-1/state.tar.gz', import.meta.url)),
    '-C',
    root,
  ])
  return root
}

async function checkMigrated(root: string): Promise<void> {
  const checkpoint = await loadCheckpoint(statePaths(root).checkpoint)
  assert.ok(checkpoint !== null)
  assert.equal(checkpoint.shared.round, OLD.round)
  assert.equal(Buffer.from(sha3_256(f32Bytes(checkpoint.shared.adapter))).toString('hex'), OLD.adapterSha3)
  assert.equal(checkpoint.residual, null)
  assert.ok(checkpoint.trainer.length > 0)
  assert.equal(await readFile(join(root, 'version'), 'utf8'), `${LAYOUT_VERSION}\n`)
}

describe('a state folder of layout version 1', () => {
  it('is migrated once, and again when a crash came before the version was written', async (t) => {
    const root = await oldFolder(await temporaryFolder(t))
    const first = await openStateFolder(root)
    assert.equal(first.migratedFrom, 1)
    first.close()
    await checkMigrated(root)
    await writeFile(join(root, 'version'), '1\n') // as a crash after the checkpoint leaves it
    const again = await openStateFolder(root)
    again.close()
    await checkMigrated(root)
    const third = await openStateFolder(root)
    assert.equal(third.migratedFrom, null)
    third.close()
  })

  it('is not touched when its checkpoint is damaged', async (t) => {
    const root = await oldFolder(await temporaryFolder(t))
    const path = statePaths(root).checkpoint
    const bytes = await readFile(path)
    bytes[1000] = (bytes[1000] ?? 0) ^ 1
    await writeFile(path, bytes)
    await assert.rejects(openStateFolder(root), /cannot be migrated/)
    assert.deepEqual(await readFile(path), bytes)
    assert.equal(await readFile(join(root, 'version'), 'utf8'), '1\n')
  })

  it('is gone on from by a daemon, as the same peer, with the next round', async (t) => {
    const root = await oldFolder(await temporaryFolder(t))
    const daemon = TestDaemon.start(t, root, [
      ...settings({
        // The folder was made with this one.
        'train.model': GOLDEN_MODEL,
        'train.dataset': join(DEMO, 'train.jsonl'),
        'train.lora_rank': 1,
        'train.lora_targets': '[q_proj]',
        'train.group_size': 2,
        'train.prompts_per_step': 1,
        'train.aggregate_interval': 1,
        'train.max_completion_length': 4,
        'train.threads': 1,
        'train.learning_rate': 1e-3,
        'train.rounds': OLD.round + 1,
        'ring.min_members': 1,
        'ring.mdns': false,
        'ring.listen': '/ip4/127.0.0.1/tcp/0',
        'http.port': 0,
        'log.format': 'json',
      }),
    ])
    assert.deepEqual(await daemon.ended, { code: 0, signal: null }, daemon.stderr)
    assert.ok(daemon.lines.some(({ msg }) => msg === 'state folder migrated from an older version'))
    assert.equal(daemon.lines.find(({ msg }) => msg === 'starting')?.peer_id, OLD.peerId)
    assert.deepEqual([...daemon.adapters().keys()], [OLD.round + 1])
  })
})
