/**
 * The thread of one reward module: loads it and calls its functions. Scores leave as they come, so that a function
 * that never returns takes none of them along; before each call it writes down what it is about to run.
 */
import { pathToFileURL } from 'node:url'
import { parentPort, workerData } from 'node:worker_threads'
import { moduleRewards } from './module-exports.ts'
import type { ModuleReward } from './module-exports.ts'
import { RUNNING_CALL, RUNNING_SAMPLE } from './module-protocol.ts'
import type { FromModuleThread, ModuleThreadStart, SentScore, ToModuleThread } from './module-protocol.ts'
import type { RewardCall, RewardSample } from './types.ts'

const { file, running } = workerData as ModuleThreadStart // this package's own start of the thread

/** Calls that run, to be stopped. */
const stops = new Map<number, AbortController>()

function send(message: FromModuleThread): void {
  parentPort?.postMessage(message)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

async function load(): Promise<ModuleReward[] | null> {
  let loaded: unknown
  try {
    loaded = await import(pathToFileURL(file).href)
  } catch (error) {
    send({ kind: 'refused', message: `cannot load the reward module ${file}: ${messageOf(error)}` })
    return null
  }
  try {
    return moduleRewards(file, loaded)
  } catch (error) {
    send({ kind: 'refused', message: messageOf(error) })
    return null
  }
}

async function score(reward: ModuleReward, call: number, samples: readonly RewardSample[]): Promise<void> {
  const stop = new AbortController()
  stops.set(call, stop)
  const { promise: stopped, reject } = Promise.withResolvers<never>()
  stopped.catch(() => undefined) // nobody waits for it when all are in time
  stop.signal.addEventListener('abort', () => reject(stop.signal.reason as Error), { once: true })
  try {
    if ('sample' in reward) await scoreEach(reward.sample, { call, samples, stopped, signal: stop.signal })
    else await scoreBatch(reward.batch, { call, samples, stopped, signal: stop.signal })
    send({ kind: 'done', call, error: null })
  } catch (error) {
    send({ kind: 'done', call, error: messageOf(error) })
  } finally {
    stops.delete(call)
  }
}

interface Scoring extends RewardCall {
  readonly call: number
  readonly samples: readonly RewardSample[]
  /** Rejects when the call is stopped. */
  readonly stopped: Promise<never>
}

/** A function of one sample: all samples at once, each failing, or being late, for itself. */
async function scoreEach(
  reward: Extract<ModuleReward, { sample: unknown }>['sample'],
  { call, samples, stopped, signal }: Scoring,
): Promise<void> {
  const scored = (sample: number, score: SentScore): void => send({ kind: 'scored', call, sample, score })
  const later: Promise<void>[] = []
  for (const [place, sample] of samples.entries()) {
    running[RUNNING_SAMPLE] = place
    running[RUNNING_CALL] = call
    try {
      const score = reward(sample, { signal })
      if (!(score instanceof Promise)) scored(place, sentScore(score))
      else
        later.push(
          Promise.race([score, stopped]).then(
            (value) => scored(place, sentScore(value)),
            (error: unknown) => scored(place, { error: messageOf(error) }),
          ),
        )
    } catch (error) {
      scored(place, { error: messageOf(error) })
    }
  }
  await Promise.all(later)
}

async function scoreBatch(
  batch: Extract<ModuleReward, { batch: unknown }>['batch'],
  { call, samples, stopped, signal }: Scoring,
): Promise<void> {
  running[RUNNING_SAMPLE] = -1
  running[RUNNING_CALL] = call
  const scores: unknown = await Promise.race([batch(samples, { signal }), stopped])
  if (!Array.isArray(scores) || scores.length !== samples.length)
    throw new Error(
      `returned ${Array.isArray(scores) ? `${scores.length} scores` : typeof scores} for ${samples.length} samples`,
    )
  for (const [sample, value] of scores.entries())
    send({ kind: 'scored', call, sample, score: sentScore(value) })
}

/** What a user's function gave, as something that can be sent. */
function sentScore(value: unknown): SentScore {
  if (value === null || typeof value === 'number') return value
  return {
    error:
      value instanceof Error ? value.message : `returned ${typeof value}, expected a finite number or null`,
  }
}

const rewards = await load()
if (rewards !== null) {
  send({ kind: 'loaded', rewards: rewards.map(({ name, deterministic }) => ({ name, deterministic })) })
  parentPort?.on('message', (message: ToModuleThread) => {
    if (message.kind === 'stop') {
      stops.get(message.call)?.abort(new Error(message.reason))
      return
    }
    const reward = rewards[message.reward]
    if (reward !== undefined) void score(reward, message.call, message.samples) // it catches and sends everything
  })
}
