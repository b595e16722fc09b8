/** What every engine must make of the head: the numbers of the whole vocabulary, however many parts it comes in. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Engine, Feed } from '../src/engine/engine.ts'
import { gradients } from '../src/graph/gradient.ts'
import { GraphBuilder } from '../src/graph/graph.ts'
import { headScores, headScoresWithGradient, TARGETS_INPUT, VOCABULARY_INPUT } from '../src/models/head.ts'
import { numbers } from './primitive-cases.ts'

/** Not a multiple of the 64 rows that parts begin at: four parts, the last of 8. */
const VOCABULARY = 200
const WIDTH = 8
/** First and last of the vocabulary and of parts, and some between. */
const TARGETS = [0, 63, 64, 127, 130, 192, 199]
const TOLERANCE = 1e-5

const HIDDEN = Float32Array.from(numbers(TARGETS.length * WIDTH, 51), (value) => 2 * value)
const HEAD = Float32Array.from(numbers(VOCABULARY * WIDTH, 52))

interface TokenNumbers {
  readonly logps: number
  readonly entropies: number
  readonly below: number
  /** Gradient of the log-probability by the hidden row. */
  readonly gradient: readonly number[]
}

/** The definitions in float64: log softmax, its entropy, the mass before the target, W[y] - p W. */
function expectedOf(token: number, target: number): TokenNumbers {
  const row = (values: Float32Array, index: number): number[] => [
    ...values.subarray(index * WIDTH, (index + 1) * WIDTH),
  ]
  const hidden = row(HIDDEN, token)
  const logits = Array.from({ length: VOCABULARY }, (_, id) =>
    row(HEAD, id).reduce((sum, value, i) => sum + value * (hidden[i] ?? NaN), 0),
  )
  const most = Math.max(...logits)
  const partition = most + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0))
  const chances = logits.map((logit) => Math.exp(logit - partition))
  const mean = (of: (id: number) => number): number =>
    chances.reduce((sum, chance, id) => sum + chance * of(id), 0)
  return {
    logps: (logits[target] ?? NaN) - partition,
    entropies: partition - mean((id) => logits[id] ?? NaN),
    below: mean((id) => (id < target ? 1 : 0)),
    gradient: Array.from(
      { length: WIDTH },
      (_, i) => (HEAD[target * WIDTH + i] ?? NaN) - mean((id) => HEAD[id * WIDTH + i] ?? NaN),
    ),
  }
}

function assertNear(seen: Feed | undefined, expected: readonly number[], what: string): void {
  assert.equal(seen?.values.length, expected.length, what)
  for (const [index, value] of expected.entries()) {
    const off = Math.abs((seen.values[index] ?? NaN) - value)
    assert.ok(off <= TOLERANCE * Math.max(1, Math.abs(value)), `${what} ${index}: off by ${off}`)
  }
}

/** Registers the suite inside the one of an engine. */
export function headCompliance(engine: () => Engine): void {
  describe('the head', () => {
    const feeds: Record<string, Feed> = {
      hidden: { dims: [TARGETS.length, WIDTH], values: HIDDEN },
      head: { dims: [VOCABULARY, WIDTH], values: HEAD },
      [TARGETS_INPUT]: { dims: [TARGETS.length], values: Int32Array.from(TARGETS) },
      [VOCABULARY_INPUT]: {
        dims: [1, VOCABULARY],
        values: Float32Array.from({ length: VOCABULARY }, (_, id) => id),
      },
    }
    const expected = TARGETS.map((target, token) => expectedOf(token, target))

    for (const parts of [1, 2, 4, 100])
      it(`scores tokens and gives their gradient with the vocabulary in at most ${parts} parts`, async () => {
        const g = new GraphBuilder()
        const hidden = g.input('hidden', ['N', WIDTH])
        const head = g.input('head', [VOCABULARY, WIDTH])
        const scored = headScoresWithGradient(g, hidden, head, parts)
        const plain = headScores(g, hidden, head, parts, true)
        assert.ok(plain.below)
        const [gradient = hidden] = gradients(g, g.sum(scored.logps, [0]), [hidden])
        const graph = g.finish({
          logps: scored.logps,
          entropies: scored.entropies,
          gradient,
          plain_logps: plain.logps,
          plain_entropies: plain.entropies,
          below: plain.below,
        })
        const session = await engine().compile(graph, { weights: 'share' })
        const seen = await session.run(feeds)
        await session.close()
        const all = (of: (token: TokenNumbers) => number | readonly number[]): number[] =>
          expected.flatMap(of)
        for (const name of ['logps', 'plain_logps'])
          assertNear(
            seen[name],
            all(({ logps }) => logps),
            name,
          )
        for (const name of ['entropies', 'plain_entropies'])
          assertNear(
            seen[name],
            all(({ entropies }) => entropies),
            name,
          )
        assertNear(
          seen['below'],
          all(({ below }) => below),
          'below',
        )
        assertNear(
          seen['gradient'],
          all(({ gradient: row }) => row),
          'gradient',
        )
      })
  })
}
