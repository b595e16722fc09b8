/** Finds golden cases by listing their folder (GOLDEN_DIR, default the copy in the repo) and reads their files. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { createEngine } from '../../packages/gspo/src/engine/create.ts'
import { GspoError } from '../../packages/gspo/src/errors.ts'
import type { EngineName } from '../../packages/gspo/src/policy-types.ts'
import { decodeSafetensors, type TensorValue } from '../../packages/gspo/src/weights/safetensors.ts'

/** The folder of all golden cases. */
export const GOLDEN_DIR = path.resolve(
  process.env['GOLDEN_DIR'] ?? path.join(import.meta.dirname, '../golden'),
)

/**
 * Engines that run every case: GOLDEN_ENGINES, comma-separated. `npm run test:golden` names all; the everyday run takes
 * the default, since the others are slow without a GPU.
 */
export const ENGINES: readonly EngineName[] = (process.env['GOLDEN_ENGINES'] ?? 'onnx-cpu')
  .split(',')
  .map((name) => {
    const engine = (['onnx-cpu', 'onnx-webgpu', 'tfjs'] as const).find((known) => known === name)
    assert.ok(engine, `GOLDEN_ENGINES names ${name}; known: onnx-cpu, onnx-webgpu, tfjs`)
    return engine
  })

/** Parts in which training goes through the vocabulary: GOLDEN_HEAD_PARTS, else as the models are, all at once. */
export const HEAD_PARTS =
  process.env['GOLDEN_HEAD_PARTS'] === undefined ? undefined : Number(process.env['GOLDEN_HEAD_PARTS'])

/** One case on one engine; `skip` says why it cannot run here, or is false. */
export interface EngineCase {
  readonly name: string
  readonly engine: EngineName
  readonly skip: string | false
}

/** Each case on each of ENGINES. */
export async function onEngines(cases: readonly string[]): Promise<EngineCase[]> {
  const runs = await Promise.all(
    ENGINES.map(async (engine) => ({ engine, skip: await reasonAgainst(engine) })),
  )
  return runs.flatMap((run) => cases.map((name) => ({ ...run, name })))
}

async function reasonAgainst(engine: EngineName): Promise<string | false> {
  try {
    await (await createEngine(engine, { threads: 1 })).close()
    return false
  } catch (error) {
    if (error instanceof GspoError && error.code === 'ENGINE_UNAVAILABLE') return error.message
    throw error
  }
}

/** Sub-folders that hold a file of this name, sorted; at most `depth` levels down. */
export function findCases(folder: string, file: string, depth = 1): string[] {
  const root = path.join(GOLDEN_DIR, folder)
  if (!existsSync(root)) return []
  const found: string[] = []
  const visit = (at: string, level: number): void => {
    if (existsSync(path.join(at, file))) found.push(path.relative(root, at))
    if (level < depth)
      for (const entry of readdirSync(at, { withFileTypes: true }))
        if (entry.isDirectory()) visit(path.join(at, entry.name), level + 1)
  }
  visit(root, 0)
  return found.sort()
}

/** Parsed JSON of a golden file, as the caller says it is. */
export function readJson<T>(...parts: string[]): T {
  return JSON.parse(readFileSync(path.join(GOLDEN_DIR, ...parts), 'utf8')) as T
}

/** Tensors of a golden file by name. */
export class Tensors {
  private readonly tensors: ReadonlyMap<string, TensorValue>
  private readonly file: string

  constructor(...parts: string[]) {
    this.file = path.join(GOLDEN_DIR, ...parts)
    this.tensors = decodeSafetensors(readFileSync(this.file), this.file).tensors
  }

  has(name: string): boolean {
    return this.tensors.has(name)
  }

  names(): string[] {
    return [...this.tensors.keys()]
  }

  shape(name: string): readonly number[] {
    return this.get(name).shape
  }

  floats(name: string): Float32Array {
    const { values } = this.get(name)
    assert.ok(values instanceof Float32Array, `${this.file}: ${name} holds floats`)
    return values
  }

  ints(name: string): Int32Array {
    const { values } = this.get(name)
    assert.ok(values instanceof Int32Array, `${this.file}: ${name} holds integers`)
    return values
  }

  private get(name: string): TensorValue {
    const found = this.tensors.get(name)
    assert.ok(found, `${this.file} has ${name}`)
    return found
  }
}

/** Largest absolute difference; arrays of other lengths differ infinitely. */
export function maxDifference(seen: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (seen.length !== expected.length) return Infinity
  let worst = 0
  for (let i = 0; i < seen.length; i++) {
    const difference = Math.abs((seen[i] ?? NaN) - (expected[i] ?? NaN))
    worst = Number.isNaN(difference) ? Infinity : Math.max(worst, difference)
  }
  return worst
}

/** Asserts that no element is further off than `tolerance`. */
export function assertClose(
  seen: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  what: string,
): void {
  const worst = maxDifference(seen, expected)
  assert.ok(worst <= tolerance, `${what}: largest difference ${worst}, allowed ${tolerance}`)
}
