/** Small pieces that the model and training cases share: unpadded rows, batches made from them, adapters. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { AdapterLayout } from '../../packages/gspo/src/lora.ts'
import type { TokenBatch } from '../../packages/gspo/src/policy.ts'
import type { Tensors } from './golden.ts'

/** The valid tokens of each row of `input_ids`. */
export function sequences(golden: Tensors): Int32Array[] {
  const [rows = 0, width = 0] = golden.shape('input_ids')
  const ids = golden.ints('input_ids')
  const mask = golden.ints('attention_mask')
  return Array.from({ length: rows }, (_, row) =>
    ids.subarray(row * width, (row + 1) * width).filter((_id, i) => mask[row * width + i] === 1),
  )
}

/** Rows as prompts of `promptLength` tokens and completions of the rest. */
export function batchOf(rows: readonly Int32Array[], promptLength: number): TokenBatch {
  const completionLength = Math.max(...rows.map((row) => row.length)) - promptLength
  const completionIds = new Int32Array(rows.length * completionLength)
  const completionMask = new Int32Array(rows.length * completionLength)
  const promptIds = new Int32Array(rows.length * promptLength)
  rows.forEach((row, index) => {
    promptIds.set(row.subarray(0, promptLength), index * promptLength)
    completionIds.set(row.subarray(promptLength), index * completionLength)
    completionMask.fill(1, index * completionLength, index * completionLength + row.length - promptLength)
  })
  const promptMask = new Int32Array(promptIds.length).fill(1)
  return {
    rows: rows.length,
    promptLength,
    completionLength,
    promptIds,
    promptMask,
    completionIds,
    completionMask,
  }
}

/** The largest logit's id of each row. */
export function argmaxRows(logits: Float32Array, rows: number): Int32Array {
  const size = logits.length / rows
  return Int32Array.from({ length: rows }, (_, row) => {
    let best = 0
    for (let id = 1; id < size; id++)
      if ((logits[row * size + id] ?? 0) > (logits[row * size + best] ?? 0)) best = id
    return best
  })
}

/** Named matrices as one flat vector. */
export function flatten(layout: AdapterLayout, tensors: Tensors, prefix = ''): Float32Array {
  const flat = new Float32Array(layout.length)
  for (const { name, offset } of layout.tensors) flat.set(tensors.floats(`${prefix}${name}`), offset)
  return flat
}

/** Whether a model has layers of linear attention, whose reference is itself less exact. */
export function isHybrid(modelDir: string): boolean {
  return readFileSync(path.join(modelDir, 'config.json'), 'utf8').includes('"linear_attention"')
}
