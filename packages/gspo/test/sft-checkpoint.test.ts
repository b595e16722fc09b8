/** What a supervised run goes on from after it was ended: same bits, same run, or a refusal that names what differs. */
import assert from 'node:assert/strict'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { before, after, describe, it } from 'node:test'
import type { SftConfig } from '../src/sft/config.ts'
import { runSft } from '../src/sft/run-sft.ts'
import type { SftProgress } from '../src/sft/state.ts'
import { ARITH } from './arith.ts'

const FILE = 'sft-state.safetensors'

describe('checkpoint_dir', () => {
  let dir = ''
  let config: SftConfig
  let whole: Buffer
  const seen: SftProgress[] = []
  const weightsOf = (folder: string): Promise<Buffer> => readFile(join(dir, folder, 'model.safetensors'))
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'gspo-sft-checkpoint-'))
    config = {
      model: ARITH.model,
      dataset: ARITH.train,
      eval_dataset: ARITH.test,
      eval_limit: 10,
      output_dir: join(dir, 'whole'),
      batch_size: 8,
      max_steps: 6,
      eval_steps: 2,
      threads: 1,
      // The first evaluation lowers the rate: a run that went on without knowing would come out otherwise.
      lr_drop_at_accuracy: 1e-30,
    }
    await runSft(config, { onProgress: (progress) => seen.push(progress) })
    whole = await weightsOf('whole')
  })
  after(() => rm(dir, { recursive: true }))

  it('goes on from the last evaluation to the bits of a run that was not ended, and then has nothing left to do', async () => {
    const parts = { ...config, output_dir: join(dir, 'parts'), checkpoint_dir: join(dir, 'parts-state') }
    const ended = new AbortController()
    await assert.rejects(
      runSft(parts, { signal: ended.signal, onProgress: ({ step }) => step === 4 && ended.abort() }),
      { code: 'CANCELLED' },
    )
    // What a process that died in the middle of writing the next state leaves.
    await writeFile(join(dir, 'parts-state', `${FILE}.tmp`), 'half')
    const rest: SftProgress[] = []
    const last = await runSft(parts, { onProgress: (progress) => rest.push(progress) })
    assert.deepEqual(
      rest.map(({ step }) => step),
      [6],
    )
    assert.deepEqual({ ...last, seconds: 0 }, { ...seen[2], seconds: 0 })
    assert.deepEqual(await weightsOf('parts'), whole)

    await rm(parts.output_dir, { recursive: true })
    const again = await runSft(parts, { onProgress: () => assert.fail('a run that is over trained again') })
    assert.deepEqual(again, last)
    assert.deepEqual(await weightsOf('parts'), whole)
  })

  it('says before it trains what it cannot write to', async () => {
    const file = join(dir, 'file')
    await writeFile(file, '')
    for (const key of ['output_dir', 'checkpoint_dir'])
      await assert.rejects(runSft({ ...config, [key]: file }), {
        code: 'FILE_UNWRITABLE',
        message: /EEXIST.*: a file stands where the folder should be/,
      })
  })

  it('refuses the state of another run by the name of what differs, and bytes that are no state', async () => {
    const checkpoint_dir = join(dir, 'state')
    const short = { ...config, output_dir: join(dir, 'out'), checkpoint_dir, max_steps: 2 }
    await runSft(short)
    const rejects = (changes: Partial<SftConfig>, message: RegExp): Promise<void> =>
      assert.rejects(runSft({ ...short, ...changes }), { code: 'BAD_STATE', message })
    await rejects({ seed: 1 }, /seed was 0, is 1/)
    await rejects({ max_steps: 8 }, /max_steps was 2, is 8/)
    await rejects({ stop_at_accuracy: 0.5 }, /stop_at_accuracy was null, is 0\.5/)
    await rejects({ dataset: ARITH.test }, /dataset was [0-9a-f]{64}, is [0-9a-f]{64}/)
    // Where files lie and how many rows are named otherwise does not matter, what is in them does.
    const moved = join(dir, 'moved.jsonl')
    await copyFile(ARITH.train, moved)
    assert.equal((await runSft({ ...short, dataset: moved })).step, 2)
    await rejects({ eval_limit: 9 }, /eval_dataset was/)

    const file = join(checkpoint_dir, FILE)
    const bytes = await readFile(file)
    await writeFile(file, bytes.subarray(0, -4))
    await assert.rejects(runSft(short), { code: 'BAD_SAFETENSORS' })
    await copyFile(join(short.output_dir, 'model.safetensors'), file)
    await rejects({}, /format pt, expected gym-sft-state-1/)
  })
})
