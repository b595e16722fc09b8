/** `gym-node delta`, every subcommand through the real command line, on the files of one short real run. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { DEMO, runCommand } from '../../../test/e2e/daemon-harness.ts'

let folder = ''
const of = (node: number, file: string): string => join(folder, 'run', `node-${node}`, file)
const out = (name: string): string => join(folder, name)
const delta = (node: number, round: number): string => of(node, `deltas/round-${round}.delta`)
const state = (node: number, round: number): string => of(node, `traces/round-${round}.state`)
const config = (): string => join(folder, 'run/node-0.yaml')

/** Standard output of `gym-node delta ...args`, after its exit code has been checked. */
async function run(code: number, ...args: string[]): Promise<string> {
  const result = await runCommand(['delta', ...args])
  assert.equal(result.code, code, `${args.join(' ')}\n${result.stdout}${result.stderr}`)
  assert.equal(result.stderr, '', 'nothing but the result')
  return result.stdout
}

/** The one error line of a command that must end with `code` and print nothing else. */
async function failure(code: number, ...args: string[]): Promise<string> {
  const result = await runCommand(['delta', ...args])
  assert.equal(result.code, code, `${args.join(' ')}\n${result.stdout}${result.stderr}`)
  assert.equal(result.stdout, '')
  assert.match(result.stderr, /^error [A-Z_]+: [^\n]+\)\n$/)
  return result.stderr
}

interface Inspected {
  readonly metadata: {
    readonly worker_id: string
    readonly state_before: string
  }
  readonly tensors: readonly { readonly dtype: string }[]
  readonly signatures: readonly string[]
}

async function inspected(file: string): Promise<Inspected> {
  return JSON.parse(await run(0, 'inspect', '--json', file)) as Inspected
}

function replayArgs(file = delta(0, 2)): string[] {
  return ['replay', file, '--trace', of(0, 'traces/round-2.trace'), '--base', state(0, 2)]
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gym-test-'))
  const lines = (await readFile(join(DEMO, 'test.jsonl'), 'utf8')).split('\n').slice(0, 16)
  await writeFile(out('held-out.jsonl'), `${lines.join('\n')}\n`)
  const { code, stderr, stdout } = await runCommand([
    ...['ring', '--nodes', '2', '--rounds', '2', '--steps', '2', '--out', out('run')],
    ...['--test-dataset', out('held-out.jsonl')],
  ])
  assert.equal(code, 0, stdout + stderr)
})
after(() => rm(folder, { recursive: true, force: true }))

describe('delta inspect and verify', () => {
  it('print what the worker signed', async () => {
    const { metadata, tensors, signatures } = await inspected(delta(0, 1))
    assert.deepEqual(signatures, ['ed25519', 'ml-dsa-87'])
    assert.equal(tensors.length, 56, 'A and B of 7 projections in 4 layers')
    const text = await run(0, 'inspect', delta(0, 1))
    assert.ok(text.includes(metadata.worker_id))
    const verdicts = await run(0, 'verify', delta(0, 1), delta(1, 1))
    assert.equal(verdicts.match(/: verified, round 1 of job local-ring by /g)?.length, 2)
  })

  it('find a changed byte, and say which check it breaks', async () => {
    const bytes = await readFile(delta(0, 1))
    bytes[bytes.length - 20_000] = (bytes[bytes.length - 20_000] ?? 0) ^ 1
    await writeFile(out('bent.delta'), bytes)
    assert.match(await run(3, 'verify', out('bent.delta'), delta(0, 1)), /FAILED checksum|FAILED format/)
    assert.match(await failure(6, 'inspect', out('none.delta')), /FILE_NOT_FOUND/)
  })
})

describe('delta replay', () => {
  it('accepts an honest delta bit for bit, with the job’s settings or the worker’s claim', async () => {
    assert.match(
      await run(0, ...replayArgs(), '--config', config(), '--strict'),
      / ok +adapter +bit-identical/,
    )
    const copies = ['--model', DEMO, '--data', join(DEMO, 'train.jsonl')]
    const { metadata } = await inspected(delta(0, 2))
    const expected = ['--round', '2', '--worker', metadata.worker_id, '--base-sha3', metadata.state_before]
    const answer: unknown = JSON.parse(await run(0, ...replayArgs(), ...copies, ...expected, '--json'))
    assert.ok(typeof answer === 'object' && answer !== null && 'settings_are_the_workers_claim' in answer)
    assert.equal(answer.settings_are_the_workers_claim, true)
  })

  it('rejects another worker’s delta and another round with exit code 3', async () => {
    assert.match(await run(3, ...replayArgs(delta(1, 2)), '--config', config()), /FAILED trace_hash/)
    assert.match(
      await run(3, ...replayArgs(), '--config', config(), '--round', '1'),
      /FAILED expected +round is 2, asked for was 1/,
    )
  })

  it('blames nobody for a command that could not hold', async () => {
    const args = [...replayArgs(), '--config', config()]
    assert.match(await failure(2, ...args, '--round', 'two'), /--round is "two", expected a whole number/)
    assert.match(await failure(2, ...args, '--base-sha3', 'ab'), /expected 64 lower-case hexadecimal digits/)
    assert.match(await failure(2, ...replayArgs()), /USAGE: name the job with --config/)
  })
})

describe('delta quality', () => {
  it('compares the deltas of a round, and tries them on a held-out set', async () => {
    const trial = ['--held-out', out('held-out.jsonl'), '--config', config(), '--base', state(0, 1)]
    const text = await run(0, 'quality', delta(0, 1), delta(1, 1), ...trial)
    assert.equal(text.match(/ok +held_out_reward +reward [\d.]+ without the delta/g)?.length, 2)
    assert.match(await run(3, 'quality', delta(0, 1), delta(0, 1)), /FAILED not_a_copy/)
  })

  it('refuses deltas of two rounds, and folders', async () => {
    assert.match(await failure(2, 'quality', delta(0, 1), delta(0, 2)), /give the deltas of one round/)
    assert.match(await failure(6, 'quality', folder), /FILE_UNREADABLE: .* is not a file/)
  })
})

describe('delta export, apply, import, diff and merge', () => {
  it('lead from a delta to an adapter, back to a file, and into a model', async () => {
    const exported = await run(0, 'export', delta(0, 2), '--base', state(0, 2), '--out', out('adapter'))
    assert.match(exported, /155,648 numbers from 1 delta, adapter SHA3-256 [0-9a-f]{64}\n$/)
    await run(0, 'import', out('adapter'), '--model', DEMO, '--out', out('whole.delta'))
    assert.equal(await run(0, 'diff', out('adapter'), out('whole.delta')), 'equal\n')
    const merged = await run(0, 'merge', '--model', DEMO, '--adapter', out('adapter'), '--out', out('model'))
    assert.match(merged, /28 weights changed/)
  })

  it('the mean of a round’s deltas on its base is the ring’s next adapter', async () => {
    const half = ['--scale', '0.5', '--base', state(0, 1), '--out', out('mean')]
    await run(0, 'apply', delta(0, 1), delta(1, 1), ...half)
    await run(0, 'apply', delta(0, 2), '--scale', '0', '--base', state(0, 2), '--out', out('next'))
    const difference = JSON.parse(
      (await runCommand(['delta', 'diff', '--json', out('mean'), out('next')])).stdout,
    ) as {
      total: { differenceNorm: number; leftNorm: number }
    }
    // The ring adds the mean, this adds two halves: float32 rounds at 6e-8 of a number each time.
    assert.ok(difference.total.differenceNorm < 1e-6 * difference.total.leftNorm)
    assert.match(await run(3, 'diff', delta(0, 1), delta(1, 1)), /^all {2}[\d,]+ of 155,648 differ/)
  })

  it('say what is wrong with their input', async () => {
    const to = ['--out', out('never')]
    assert.match(
      await failure(2, 'export', delta(0, 2), ...to),
      /name the adapter it starts from with --base/,
    )
    assert.match(await failure(6, 'export', folder, '--base', state(0, 2), ...to), /is not a file/)
    assert.match(
      await failure(6, 'apply', delta(0, 2), '--base', state(0, 1), ...to),
      /use the adapter of round 1/,
    )
    assert.match(await failure(6, 'import', folder, '--model', DEMO, ...to), /adapter_config\.json/)
    assert.match(await failure(6, 'diff', folder, delta(0, 1)), /is not a file/)
    const merge = ['merge', '--adapter', out('adapter'), ...to]
    assert.match(await failure(6, ...merge, '--model', folder), /holds no safetensors weights/)
    assert.match(await failure(6, ...merge, '--model', out('none')), /there is no model folder/)
  })
})

describe('delta convert', () => {
  it('stores ten times smaller than bf16, and is signed by the worker alone', async () => {
    const [small, bf16] = [out('bits.delta'), out('bf16.delta')]
    assert.match(
      await run(0, 'convert', delta(0, 1), '--dtype', 'bitdelta', '--out', small),
      /relative error 0\.\d+, not signed/,
    )
    const own = ['--state-dir', of(0, '')]
    await run(0, 'convert', delta(0, 1), '--dtype', 'bf16', '--compression', 'none', '--out', bf16, ...own)
    assert.match(await run(0, 'verify', bf16), /verified, round 1/)
    assert.ok(10 * (await readFile(small)).length < (await readFile(bf16)).length)
    assert.match(await run(3, 'verify', small), /FAILED ed25519/)
    const foreign = ['--state-dir', of(1, ''), '--out', out('never.delta')]
    assert.match(await failure(2, 'convert', delta(0, 1), ...foreign), /only that worker can sign it/)
    assert.match(await failure(2, 'convert', delta(0, 1), '--out', bf16), /OUTPUT_EXISTS/)
    assert.match(await failure(6, 'convert', delta(0, 1), '--out', out('no/x.delta')), /there is no folder/)
  })
})
