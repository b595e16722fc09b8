import assert from 'node:assert/strict'
import { it } from 'node:test'
import { gradients } from '../src/graph/gradient.ts'
import { GraphBuilder } from '../src/graph/graph.ts'
import type { OpKind } from '../src/graph/ops.ts'
import { isIndexInput, PRIMITIVE_CASES } from './primitive-cases.ts'

/** Every primitive; the compiler refuses a list with one missing. `true`: the suite has it outside of the cases. */
const KINDS: Readonly<Record<OpKind, boolean>> = {
  input: false,
  weight: true, // weight-compliance.ts
  constant: false,
  add: false,
  sub: false,
  mul: false,
  div: false,
  min: false,
  max: false,
  less: false,
  equal: false,
  neg: false,
  exp: false,
  log: false,
  sqrt: false,
  sigmoid: false,
  softplus: false,
  cast: false,
  where: false,
  matmul: false,
  softmax: false,
  sum: false,
  maximum: false,
  reshape: false,
  expand: false,
  transpose: false,
  slice: false,
  concat: false,
  gatherRows: false,
  scatterAddRows: false,
  pick: false,
  scatterPick: false,
  topIndices: false,
  nonZero: false,
  groupMatmul: false,
  groupOuter: false,
  rmsNorm: false,
  inverseRms: false,
  rope: false,
  stopGradient: false,
  attachGradient: false,
}

it('every primitive has a case that all engines run', () => {
  const covered = new Set<string>()
  for (const testCase of PRIMITIVE_CASES) {
    const g = new GraphBuilder()
    const input = (key: string) =>
      g.input(key, testCase.feeds[key]?.dims ?? [], isIndexInput(key) ? 'i32' : 'f32')
    const result = testCase.build(g, input)
    const axes = result.shape.map((_, axis) => axis)
    const wanted = testCase.wanted.map(input)
    const outputs = wanted.length === 0 ? [] : gradients(g, g.sum(g.mul(result, result), axes), wanted)
    const named = Object.fromEntries([result, ...outputs].map((tensor, index) => [`${index}`, tensor]))
    for (const { op } of g.finish(named).tensors) covered.add(op.kind)
  }
  const missing = Object.entries(KINDS).flatMap(([kind, isElsewhere]) =>
    isElsewhere || covered.has(kind) ? [] : [kind],
  )
  assert.deepEqual(missing, [])
})
