/** What `gym-node ring` was asked to do, complete: flags, and the defaults of the demo. */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { settingsFrom } from '../config/load.ts'
import { DEMO_AGGREGATE_INTERVAL, DEMO_COMPLETIONS_PER_STEP, DEMO_ROUNDS, DEMO_TRAIN } from '../defaults.ts'
import { NodeError } from '../errors.ts'
import { asStateError } from '../state/atomic.ts'

const DEMO = fileURLToPath(new URL('../../demo/arith-model/', import.meta.url))
const MAX_NODES = 64

/** Flags as commander hands them over. */
export interface RingFlags {
  readonly nodes?: string
  readonly rounds?: string
  readonly steps?: string
  readonly model?: string
  readonly dataset?: string
  readonly testDataset?: string
  readonly reward?: string
  readonly out?: string
  readonly seed?: string
  readonly threads?: string
  readonly validator?: boolean
  readonly json?: boolean
  readonly set?: readonly string[]
}

/** The complete order. */
export interface RingOrder {
  readonly nodes: number
  readonly rounds: number
  readonly model: string
  readonly dataset: string
  /** Held-out prompts; null when there are none to evaluate on. */
  readonly testDataset: string | null
  readonly out: string
  readonly isOutTemporary: boolean
  readonly seed: number
  /** Threads of each daemon's engine, and of the evaluation, which has the machine for itself. */
  readonly threads: number
  readonly evaluationThreads: number
  readonly json: boolean
  /** Whether a validator audits the others. */
  readonly hasValidator: boolean
  /** Section `train` of every daemon, without its seed. */
  readonly train: Readonly<Record<string, unknown>>
  /** What --set says, as a part of every daemon's configuration; it beats all else. */
  readonly settings: Readonly<Record<string, unknown>>
}

/** Fills in defaults and makes the output folder. Throws NodeError USAGE or FILE_NOT_FOUND. */
export async function readRingOrder(flags: RingFlags): Promise<RingOrder> {
  const nodes = integer('--nodes', flags.nodes, 3, 1, MAX_NODES)
  const seed = integer('--seed', flags.seed, 0, 0, 0xffff_ffff)
  const cores = availableParallelism()
  const settings = settingsFrom(flags.set ?? [], process.cwd())
  const set: Record<string, unknown> = { ...(settings['train'] ?? {}) }
  const namedModel = textOf(set['model']) ?? flags.model
  const namedDataset = textOf(set['dataset']) ?? flags.dataset
  const isDemo = namedModel === undefined
  if (!isDemo && namedDataset === undefined) {
    throw new NodeError('USAGE', '--model without --dataset: name the JSONL file to train on')
  }
  const model = resolve(namedModel ?? DEMO)
  const dataset = resolve(namedDataset ?? join(DEMO, 'train.jsonl'))
  const test = flags.testDataset ?? (namedDataset === undefined ? join(DEMO, 'test.jsonl') : null)
  for (const path of [model, dataset, ...(test === null ? [] : [resolve(test)])]) {
    if (!existsSync(path)) throw new NodeError('FILE_NOT_FOUND', `there is no ${path}`)
  }
  const threads = integer('--threads', flags.threads, Math.max(1, Math.floor(cores / nodes)), 1, 1024)
  const out = await makeOutFolder(flags.out)
  return {
    nodes,
    rounds: integer('--rounds', textOf(set['rounds']) ?? flags.rounds, DEMO_ROUNDS, 1, 1_000_000),
    model,
    dataset,
    testDataset: test === null ? null : resolve(test),
    out,
    isOutTemporary: flags.out === undefined,
    seed,
    threads,
    evaluationThreads: flags.threads === undefined ? cores : threads,
    json: flags.json === true,
    hasValidator: flags.validator === true,
    train: {
      ...(isDemo ? { ...DEMO_TRAIN, prompts_per_step: demoPrompts(nodes) } : {}),
      model,
      dataset,
      threads,
      aggregate_interval: integer('--steps', flags.steps, DEMO_AGGREGATE_INTERVAL, 1, 100_000),
      ...(flags.reward === undefined ? {} : { rewards: [rewardFrom(flags.reward)] }),
      ...set,
    },
    settings,
  }
}

/** A single value of --set as the text that the flag of the same meaning takes; undefined when it is not set. */
function textOf(value: unknown): string | undefined {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined
}

/** Prompts of one node's step, so that rings of any size sample about as many completions in all. */
function demoPrompts(nodes: number): number {
  return Math.max(1, Math.round(DEMO_COMPLETIONS_PER_STEP / DEMO_TRAIN.group_size / nodes))
}

/** A built-in reward by its name, or a module by its path: a name has neither a slash nor an ending. */
function rewardFrom(text: string): Record<string, unknown> {
  return /^[a-z_]+$/.test(text) ? { name: text } : { module: resolve(text) }
}

async function makeOutFolder(out: string | undefined): Promise<string> {
  if (out === undefined) return mkdtemp(join(tmpdir(), 'gym-ring-'))
  const folder = resolve(out)
  if (existsSync(join(folder, 'node-0'))) throw new NodeError('OUTPUT_EXISTS', `${folder} holds another run`)
  try {
    await mkdir(folder, { recursive: true })
  } catch (error) {
    throw asStateError(error, folder)
  }
  return folder
}

function integer(
  flag: string,
  text: string | undefined,
  fallback: number,
  least: number,
  most: number,
): number {
  if (text === undefined) return fallback
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < least || value > most) {
    throw new NodeError('USAGE', `${flag} is "${text}", expected a whole number from ${least} to ${most}`)
  }
  return value
}
