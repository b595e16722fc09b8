/** JSONL data sets: what is accepted, and that every complaint names file, line and remedy. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { loadDataset, parseDataset as parseBytes } from '../src/data/dataset.ts'
import type { DataRow } from '../src/data/dataset.ts'
import { createDataOrder } from '../src/data/order.ts'

const parseDataset = (text: string, path: string): DataRow[] => parseBytes(Buffer.from(text), path)
const rejects = (text: string, pattern: RegExp): void => {
  assert.throws(() => parseDataset(text, 'train.jsonl'), { code: 'BAD_DATASET', message: pattern })
}

describe('parseDataset', () => {
  it('reads text prompts, numbers as answers, CRLF and blank lines', () => {
    const rows = parseDataset('{"prompt":"2+2=","answer":4}\r\n\n{"prompt":"x","level":3}\n', 'f')
    assert.deepEqual(
      rows.map(({ prompt, answer }) => [prompt, answer]),
      [
        ['2+2=', '4'],
        ['x', undefined],
      ],
    )
    assert.equal(rows[1]?.columns['level'], 3)
  })
  it('reads chat messages', () => {
    const [row] = parseDataset('{"prompt":[{"role":"user","content":"hi"}],"answer":"x"}', 'f')
    assert.deepEqual(row?.prompt, [{ role: 'user', content: 'hi' }])
  })
  it('passes over the byte-order mark that editors on Windows write', () => {
    const [row] = parseDataset('\uFEFF{"prompt":"é"}\r\n', 'f')
    assert.equal(row?.prompt, 'é')
    rejects('\uFEFF\n{"prompt":', /line 2: not valid JSON/)
  })
  it('names the line that is no UTF-8 instead of reading it as replacement characters', () => {
    // é in Latin-1.
    const bytes = Buffer.concat([
      Buffer.from('{"prompt":"é"}\n{"prompt":"caf'),
      Buffer.of(0xe9),
      Buffer.from('"}'),
    ])
    assert.throws(() => parseBytes(bytes, 'f'), { code: 'BAD_DATASET', message: /^f, line 2: is no UTF-8/ })
    // Half of a pair as JSON escapes it is a text that JSON allows, and so is U+FFFD itself.
    assert.equal(parseDataset('{"prompt":"\\ud83d \ufffd"}', 'f')[0]?.prompt, '\ud83d \ufffd')
  })
  it('names the line that has no prompt, and its keys', () =>
    rejects(
      '{"prompt":"a"}\n\n{"question":"b","answer":"c"}',
      /train\.jsonl, line 3: has no "prompt" \(keys: question, answer\); add/,
    ))
  it('names the line that is not JSON', () => rejects('{"prompt":"a"}\n{"prompt":', /line 2: not valid JSON/))
  it('refuses an empty prompt, a list that is no object, and a nested answer', () => {
    rejects('{"prompt":""}', /line 1: "prompt" is empty/)
    rejects('["a"]', /line 1: is a list, expected a JSON object/)
    rejects('{"prompt":"a","answer":{"x":1}}', /"answer" is an object/)
    rejects('{"prompt":[]}', /"prompt" is an empty list/)
    rejects('{"prompt":[{"role":"user"}]}', /message 1 of "prompt" needs "role" and "content"/)
  })
})

describe('loadDataset', () => {
  let dir = ''
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'gspo-data-'))
    await writeFile(join(dir, 'a.jsonl'), '{"prompt":"a"}\n')
    await writeFile(join(dir, 'b.jsonl'), '{"prompt":"b"}\n{"prompt":"c"}\n')
    await writeFile(join(dir, 'empty.jsonl'), '\n\n')
  })
  after(() => rm(dir, { recursive: true }))

  it('joins files in order and hashes their bytes', async () => {
    const { rows, sha256 } = await loadDataset([join(dir, 'a.jsonl'), join(dir, 'b.jsonl')])
    assert.deepEqual(
      rows.map(({ prompt }) => prompt),
      ['a', 'b', 'c'],
    )
    // printf '{"prompt":"a"}\n{"prompt":"b"}\n{"prompt":"c"}\n' | sha256sum
    assert.equal(sha256, 'fc36ab37451514e681480303c89a855397163efcbed4e5a1b2c031ca89de2944')
  })
  it('reads more rows than a call takes arguments', async () => {
    await writeFile(join(dir, 'many.jsonl'), '{"prompt":"a"}\n'.repeat(200_000))
    assert.equal((await loadDataset([join(dir, 'many.jsonl')])).rows.length, 200_000)
  })
  it('says which file is missing', () =>
    assert.rejects(loadDataset([join(dir, 'none.jsonl')]), { code: 'FILE_MISSING', message: /none\.jsonl/ }))
  it('refuses a file without rows', () =>
    assert.rejects(loadDataset([join(dir, 'empty.jsonl')]), {
      code: 'BAD_DATASET',
      message: /holds no rows/,
    }))
})

describe('createDataOrder', () => {
  it('visits every row once an epoch, in another order the next epoch', () => {
    const order = createDataOrder(50, 3, true)
    const epoch = (start: number): number[] => Array.from({ length: 50 }, (_, i) => order.rowAt(start + i))
    const all = Array.from({ length: 50 }, (_, i) => i)
    const first = epoch(0)
    assert.deepEqual(
      [...first].sort((a, b) => a - b),
      all,
    )
    assert.deepEqual(
      [...epoch(50)].sort((a, b) => a - b),
      all,
    )
    assert.notDeepEqual(epoch(50), first)
    assert.equal(createDataOrder(50, 3, true).rowAt(77), order.rowAt(77))
  })
  it('keeps the order of the file without shuffling', () => {
    const order = createDataOrder(3, 9, false)
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((position) => order.rowAt(position)),
      [0, 1, 2, 0, 1],
    )
  })
})
