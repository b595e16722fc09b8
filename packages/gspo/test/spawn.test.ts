/** The engine in a child process: the same results, errors with their codes, cancelling, and deaths on both sides. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { GSPOConfig } from '../src/config.ts'
import { spawnTrainer } from '../src/process/spawn.ts'
import { createTrainer } from '../src/trainer.ts'
import { ARITH } from './arith.ts'

const config: GSPOConfig = {
  model: ARITH.model,
  dataset: ARITH.train,
  prompts_per_step: 2,
  group_size: 4,
  max_completion_length: 6,
  learning_rate: 5e-4,
  threads: 1,
}

describe('spawnTrainer', () => {
  let dir = ''
  const rewardFile = async (name: string, text: string): Promise<GSPOConfig> => {
    const module = join(dir, name)
    await writeFile(module, text)
    return { ...config, rewards: [{ module }] }
  }
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'gspo-spawn-'))
  })
  after(() => rm(dir, { recursive: true }))

  it('does what the trainer in this process does, bit for bit', async () => {
    const local = await createTrainer(config)
    const child = await spawnTrainer(config)
    try {
      assert.deepEqual(child.info, local.info)
      const [here, there] = [await local.step(), await child.step()]
      assert.deepEqual(there.trace, here.trace)
      assert.deepEqual(await child.exportState(), new Uint8Array(await local.exportState()))
      await child.writeAdapter(new Float32Array(child.info.trainable).fill(0.01))
      assert.equal((await child.readAdapter())[7], Math.fround(0.01))
      await child.importState(await local.exportState())
      assert.deepEqual(await child.readAdapter(), await local.readAdapter())
      const question = { dataset: ARITH.test, limit: 20, mode: 'greedy' } as const
      assert.deepEqual(await child.evaluate(question), await local.evaluate(question))
      await child.exportAdapter(join(dir, 'adapter'))
      assert.match(await readFile(join(dir, 'adapter', 'adapter_config.json'), 'utf8'), /"r": 16/)
    } finally {
      await child.close()
      await local.close()
    }
    await assert.rejects(child.step(), { code: 'CLOSED' })
  })

  it('passes on the code and message of what went wrong in the child', async () => {
    await assert.rejects(spawnTrainer({ ...config, dataset: '/no/such.jsonl' }), {
      code: 'FILE_MISSING',
      message: /no\/such\.jsonl/,
    })
    await assert.rejects(spawnTrainer({ ...config, group_size: 1 }), {
      code: 'BAD_CONFIG',
      message: /group_size/,
    })
  })

  it('cancels a step and stays usable', async () => {
    const trainer = await spawnTrainer({ ...config, prompts_per_step: 64 })
    try {
      const cancel = new AbortController()
      const step = trainer.step({ signal: cancel.signal })
      cancel.abort()
      await assert.rejects(step, { code: 'CANCELLED' })
      const { stats } = await trainer.step()
      assert.equal(stats.step, 1)
    } finally {
      await trainer.close()
    }
  })

  it('rejects every pending call with ENGINE_DIED and the last output when the child dies', async () => {
    const trainer = await spawnTrainer(
      await rewardFile(
        'dies.ts',
        // The reward has a thread of its own, whose console the engine's thread writes out later.
        'import { writeSync } from "node:fs"; export default () => { writeSync(2, "out of luck"); process.kill(process.pid, "SIGKILL") }',
      ),
    )
    const calls = [trainer.step(), trainer.readAdapter()]
    for (const call of calls)
      await assert.rejects(call, { code: 'ENGINE_DIED', message: /was ended by SIGKILL.*\n.*out of luck/s })
    await assert.rejects(trainer.step(), { code: 'ENGINE_DIED' })
    await trainer.close()
  })

  it('kills the child when the spawning signal fires', async () => {
    const cancel = new AbortController()
    const trainer = await spawnTrainer(config, { signal: cancel.signal })
    const step = trainer.step()
    cancel.abort()
    await assert.rejects(step, { code: 'CANCELLED' })
    await trainer.close()
    await assert.rejects(spawnTrainer(config, { signal: cancel.signal }), { code: 'CANCELLED' })
  })

  it('leaves no child behind when the parent is killed', async () => {
    const pidFile = join(dir, 'pid')
    const child = await rewardFile(
      'pid.ts',
      `import { writeFileSync } from 'node:fs'\nwriteFileSync(${JSON.stringify(pidFile)}, String(process.pid))\nexport default () => 0`,
    )
    const source = new URL('../src/process/spawn.ts', import.meta.url).href
    const script = join(dir, 'parent.mts')
    await writeFile(
      script,
      `import { spawnTrainer } from ${JSON.stringify(source)}\nawait spawnTrainer(${JSON.stringify(child)})\nconsole.log('ready')\nsetInterval(() => undefined, 1000)\n`,
    )
    const parent = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(parent.stdout, 'data')
    const pid = Number(await readFile(pidFile, 'utf8'))
    assert.ok(isAlive(pid))
    parent.kill('SIGKILL')
    // Waits on the event, not on time: the test's own timeout bounds it.
    while (isAlive(pid)) await sleep(10)
  })
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false // no such process: what is waited for
  }
}
