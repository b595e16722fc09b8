/** The kept DELTA vectors: good files read to the same numbers, bad files refused for the right reason. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { WireError, decodeDeltaBuffer, verifyDelta } from '@gym-node/wire'
import { missingPython, pythonDecode } from './python.ts'

interface Expected {
  readonly good: Readonly<Record<string, string>>
  readonly bad: Readonly<Record<string, string>>
  readonly metadata: unknown
  readonly tensors: readonly { name: string; dtype: string; shape: number[]; values: string }[]
}

const load = (name: string): Buffer => readFileSync(new URL(`../vectors/delta/${name}`, import.meta.url))
const expected = JSON.parse(load('expected.json').toString()) as Expected

describe('DELTA vectors', () => {
  for (const [name, compression] of Object.entries(expected.good)) {
    it(`${name} reads as expected.json says`, async () => {
      const delta = await decodeDeltaBuffer(load(`${name}.delta`))
      assert.equal(delta.header.compression, compression)
      assert.deepEqual(delta.metadata, expected.metadata)
      const tensors = []
      for await (const { name: tensor, dtype, shape, values } of delta.tensors()) {
        const hex = Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('hex')
        tensors.push({ name: tensor, dtype, shape: [...shape], values: hex })
      }
      assert.deepEqual(tensors, expected.tensors)
    })
  }

  for (const [name, code] of Object.entries(expected.bad)) {
    it(`${name} is refused as ${code}`, async () => {
      const finish = async (): Promise<unknown> => (await decodeDeltaBuffer(load(`${name}.delta`))).finish()
      await assert.rejects(finish(), (error) => error instanceof WireError && error.code === code)
    })
  }

  it('signed.delta verifies', async () => {
    assert.ok((await verifyDelta([load('signed.delta')])).ok)
  })

  it(
    'the Python reference reads the good ones the same, refuses the bad ones and verifies the signed one',
    { skip: missingPython },
    () => {
      const good = Object.keys(expected.good)
      const bad = Object.keys(expected.bad)
      const reports = pythonDecode(...[...good, ...bad, 'signed'].map((name) => load(`${name}.delta`)))
      for (const [i, name] of good.entries()) {
        const report = reports[i]
        assert.ok('tensors' in report, `${name}: ${JSON.stringify(report)}`)
        assert.deepEqual(report.tensors, expected.tensors)
      }
      for (const [i, name] of bad.entries()) assert.ok('error' in reports[good.length + i], name)
      const signed = reports[reports.length - 1]
      assert.ok('signatures' in signed)
      assert.deepEqual(
        signed.signatures.map(({ ok }) => ok),
        [true, true],
      )
    },
  )
})
