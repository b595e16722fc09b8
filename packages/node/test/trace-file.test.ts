/** The trace on disk: durable step by step, cut after a crash, gone on with only by the round that began it. */
import assert from 'node:assert/strict'
import { appendFile, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { decodeTrace, encodeTrace, type StepTrace, type TraceHeader } from '@gym-node/gspo'
import { sha3_256 } from '@gym-node/wire'
import { TraceFile } from '../src/state/trace-file.ts'
import { temporaryFolder } from './delta-tools-fixtures.ts'
import { hex } from './validate-fixtures.ts'

const header: TraceHeader = {
  version: 2,
  job: 'arith',
  workerId: '12D3KooW',
  round: 3,
  stateBefore: 'ab'.repeat(32),
  model: { id: 'm', sha256: 'cd'.repeat(32) },
  dataset: { sha256: 'ef'.repeat(32), size: 10 },
  engine: 'onnx-cpu',
  versions: { node: '24' },
  config: { model: 'm', dataset: 'd' },
}
const stepOf = (step: number): StepTrace => ({
  step,
  seed: 1,
  groups: [
    {
      dataPosition: step,
      promptIds: Int32Array.of(1, 2),
      completions: [
        {
          tokens: Int32Array.of(5, step),
          logps: Float32Array.of(-0.5, -step),
          finish: 'length',
          reward: 1,
          components: [1],
        },
      ],
    },
  ],
})

async function stepsLeft(trace: TraceFile): Promise<number[]> {
  const numbers: number[] = []
  for await (const { step } of trace.left()) numbers.push(step)
  return numbers
}

describe('TraceFile', () => {
  it('has every appended step on disk before the next, and names the file by its hash', async (t) => {
    const path = join(await temporaryFolder(t), 'round-3.trace')
    const trace = await TraceFile.open(path, header)
    for (const step of [1, 2, 3]) {
      await trace.append(stepOf(step))
      assert.equal(decodeTrace(await readFile(path)).steps.length, step)
    }
    const whole = encodeTrace(header, [1, 2, 3].map(stepOf))
    assert.deepEqual(await readFile(path), Buffer.from(whole))
    assert.equal(await trace.sha3(), hex(sha3_256(whole)))
    await trace.close()
    assert.equal((await stat(path)).mode & 0o777, 0o600)
  })

  it('cuts what a crash tore at any byte, gives back the whole steps, and goes on to the same file', async (t) => {
    const path = join(await temporaryFolder(t), 'round-3.trace')
    const whole = encodeTrace(header, [1, 2, 3].map(stepOf))
    const ends = [0, 1, 2, 3].map(
      (count) => encodeTrace(header, [1, 2, 3].slice(0, count).map(stepOf)).length,
    )
    for (let length = 0; length <= whole.length; length += 3) {
      await writeFile(path, whole.subarray(0, length))
      const trace = await TraceFile.open(path, header)
      const steps = ends.filter((end) => end <= length).length - 1
      const kept = Array.from({ length: Math.max(0, steps) }, (_, i) => i + 1)
      assert.deepEqual(await stepsLeft(trace), kept, `of ${length} bytes`)
      for (let step = kept.length + 1; step <= 3; step++) await trace.append(stepOf(step))
      assert.deepEqual(await stepsLeft(trace), kept, 'appended steps are none that were left')
      await trace.close()
      assert.deepEqual(await readFile(path), Buffer.from(whole), `of ${length} bytes`)
    }
  })

  it('cuts a record that was damaged, and all after it', async (t) => {
    const path = join(await temporaryFolder(t), 'round-3.trace')
    const bytes = Buffer.from(encodeTrace(header, [1, 2, 3].map(stepOf)))
    const second = encodeTrace(header, [stepOf(1)]).length
    bytes[second + 20] = (bytes[second + 20] ?? 0) ^ 1
    await writeFile(path, bytes)
    const trace = await TraceFile.open(path, header)
    assert.deepEqual(await stepsLeft(trace), [1])
    assert.equal(trace.bytesCut, bytes.length - second)
    await trace.close()
  })

  it('cuts zeros and an old block that a file system left at the end', async (t) => {
    const path = join(await temporaryFolder(t), 'round-3.trace')
    const mine = encodeTrace(header, [stepOf(1)])
    const old = encodeTrace({ ...header, round: 2 }, [stepOf(1), stepOf(2)])
    const oldBlock = old.subarray(encodeTrace({ ...header, round: 2 }, [stepOf(1)]).length)
    for (const rest of [Buffer.alloc(4096), oldBlock]) {
      await writeFile(path, mine)
      await appendFile(path, rest)
      const trace = await TraceFile.open(path, header)
      assert.deepEqual(await stepsLeft(trace), [1])
      await trace.close()
      assert.equal((await stat(path)).size, mine.length)
    }
  })

  it('begins anew for another round, start state, setting or version, and when it is told to', async (t) => {
    const path = join(await temporaryFolder(t), 'round-3.trace')
    const others: Partial<TraceHeader>[] = [
      { round: 4 },
      { stateBefore: '00'.repeat(32) },
      { versions: { node: '25' } },
      { config: { model: 'm', dataset: 'd', learning_rate: 1 } },
    ]
    for (const other of others) {
      await writeFile(path, encodeTrace({ ...header, ...other }, [stepOf(1)]))
      const trace = await TraceFile.open(path, header)
      assert.deepEqual([trace.stepsLeft, await stepsLeft(trace)], [0, []])
      await trace.append(stepOf(1))
      assert.deepEqual(await readFile(path), Buffer.from(encodeTrace(header, [stepOf(1)])))
      await trace.restart()
      await trace.append(stepOf(2))
      await trace.close()
      assert.deepEqual(await readFile(path), Buffer.from(encodeTrace(header, [stepOf(2)])))
    }
    await truncate(path, 0)
    const trace = await TraceFile.open(path, header)
    assert.equal(trace.stepsLeft, 0)
    await trace.close()
  })
})
