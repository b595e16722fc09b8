/**
 * A trainer whose engine runs in a child process, so that the caller's event loop never waits for a matrix product.
 * Cancelling asks first and kills after a grace; a child that dies rejects every pending call with ENGINE_DIED.
 */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { GSPOConfig } from '../config.ts'
import {
  CHILD_DRAIN_MS,
  CHILD_OUTPUT_TAIL_BYTES,
  CHILD_START_TIMEOUT_MS,
  CHILD_STOP_GRACE_MS,
} from '../defaults.ts'
import { GspoError } from '../errors.ts'
import type { EvaluateOptions, Trainer } from '../trainer-types.ts'
import { exportConditions } from './export-conditions.ts'
import { unpackError } from './protocol.ts'
import type { CallName, ChildMessage, ParentMessage, TrainerCalls } from './protocol.ts'

/** How to spawn. */
export interface SpawnOptions {
  /** Kills the child, whatever it does. */
  readonly signal?: AbortSignal
}

/**
 * Settings of the GNU C library's allocator (others ignore them): what a training pass frees is kept for the next one
 * instead of going back to the system, which would have to clear every page again; and it lies in huge pages, out of which
 * weights that are read for every token come a sixth faster (42M parameters, two cores).
 */
const ALLOCATOR = {
  MALLOC_MMAP_THRESHOLD_: `${2 ** 32}`,
  MALLOC_TRIM_THRESHOLD_: `${2 ** 32}`,
  GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1',
}

interface Pending {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
}

/**
 * Starts a child, loads the model there and returns the trainer. Throws what createTrainer throws, and ENGINE_DIED or
 * CANCELLED. The child exits with its parent.
 */
export async function spawnTrainer(config: GSPOConfig, options: SpawnOptions = {}): Promise<Trainer> {
  if (options.signal?.aborted === true)
    throw new GspoError('CANCELLED', 'the trainer was cancelled before it started')
  const engine = startEngine(options.signal)
  try {
    const timeout = AbortSignal.timeout(CHILD_START_TIMEOUT_MS)
    const info = await engine.call('open', config, timeout)
    return {
      info,
      step: ({ signal } = {}) => engine.call('step', null, signal),
      replay: (steps, { signal, ...rest } = {}) => engine.call('replay', { steps, ...rest }, signal),
      readAdapter: () => engine.call('readAdapter', null),
      writeAdapter: async (values) => void (await engine.call('writeAdapter', values)),
      evaluate: ({ signal, ...rest }: EvaluateOptions) => engine.call('evaluate', rest, signal),
      exportState: () => engine.call('exportState', null),
      importState: async (bytes) => void (await engine.call('importState', bytes)),
      exportAdapter: async (dir) => void (await engine.call('exportAdapter', dir)),
      close: () => engine.close(),
    }
  } catch (error) {
    await engine.close()
    throw error
  }
}

interface Engine {
  call<Name extends CallName>(
    name: Name,
    argument: TrainerCalls[Name]['argument'],
    signal?: AbortSignal,
  ): Promise<TrainerCalls[Name]['result']>
  close(): Promise<void>
}

function startEngine(signal: AbortSignal | undefined): Engine {
  // Run from source this file is .ts and so is the child's; in the build both are .js.
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  const entry = fileURLToPath(new URL(`./child.${extension}`, import.meta.url))
  const child = fork(entry, [], {
    serialization: 'advanced',
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    execArgv: exportConditions(),
    env: { ...ALLOCATOR, ...process.env },
  })
  const output = keepTail(child)
  const pending = new Map<number, Pending>()
  const exited = Promise.withResolvers<void>()
  let nextId = 0
  let death: GspoError | undefined
  let closing: Promise<void> | undefined

  const die = (reason: string): void => {
    exited.resolve()
    const tail = output.tail()
    death ??= new GspoError(
      'ENGINE_DIED',
      `the engine process ${reason}${tail === '' ? '' : `; its last output:\n${tail}`}`,
    )
    for (const { reject } of pending.values()) reject(death)
    pending.clear()
  }
  const kill = (): void => void child.kill('SIGKILL')
  signal?.addEventListener('abort', kill, { once: true })
  child.on('error', (error) => die(`could not be run: ${error.message}`))
  child.on('exit', (code, killedBy) => void ended(code, killedBy)) // ended() only waits for streams and reports
  const ended = async (code: number | null, killedBy: NodeJS.Signals | null): Promise<void> => {
    // Not the `close` event: Node 24 never sends it to a fork that was disconnected before its end.
    await output.drained()
    signal?.removeEventListener('abort', kill)
    if (signal?.aborted === true)
      death ??= new GspoError('CANCELLED', 'the trainer was cancelled and its engine process killed')
    else if (closing !== undefined) death ??= new GspoError('CLOSED', 'the trainer is closed')
    die(killedBy === null ? `exited with code ${code}` : `was ended by ${killedBy}`)
  }
  child.on('message', (message) => {
    const received = message as ChildMessage // the channel is private to this package's own child
    const call = pending.get(received.id)
    if (call === undefined) return
    pending.delete(received.id)
    if (received.kind === 'result') call.resolve(received.result)
    else call.reject(unpackError(received.error))
  })

  const send = (message: ParentMessage): void => {
    // A send that fails has lost its child; its exit rejects what is pending.
    if (child.connected) child.send(message, () => undefined)
  }
  const call: Engine['call'] = async (name, argument, callSignal) => {
    if (death !== undefined) throw death
    if (closing !== undefined && name !== 'close') throw new GspoError('CLOSED', 'the trainer is closed')
    if (callSignal?.aborted === true)
      throw new GspoError('CANCELLED', `${name} was cancelled before it started`)
    const id = nextId++
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    pending.set(id, { resolve, reject })
    let grace: NodeJS.Timeout | undefined
    const cancel = (): void => {
      send({ kind: 'cancel', id })
      grace = setTimeout(kill, CHILD_STOP_GRACE_MS)
    }
    callSignal?.addEventListener('abort', cancel, { once: true })
    send({ kind: 'call', id, name, argument } as ParentMessage)
    try {
      return (await promise) as TrainerCalls[typeof name]['result']
    } finally {
      clearTimeout(grace)
      callSignal?.removeEventListener('abort', cancel)
    }
  }
  const stop = async (): Promise<void> => {
    const grace = setTimeout(kill, CHILD_STOP_GRACE_MS)
    try {
      if (death === undefined) await call('close', null)
      if (child.connected) child.disconnect()
    } catch {
      // It died instead of closing: the end is the same, and every other pending call has been told.
    }
    await exited.promise
    clearTimeout(grace)
  }
  return { call, close: () => (closing ??= stop()) }
}

/** The end of what a child wrote. */
interface ChildOutput {
  tail(): string
  /** Settles when all of it has been read, or after a second (a grandchild may hold the pipe open). */
  drained(): Promise<void>
}

function keepTail(child: ChildProcess): ChildOutput {
  let tail = ''
  const ends: Promise<void>[] = []
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue
    stream.setEncoding('utf8')
    stream.on('data', (text: string) => {
      tail = (tail + text).slice(-CHILD_OUTPUT_TAIL_BYTES)
    })
    ends.push(new Promise((resolve) => stream.once('close', resolve)))
  }
  const all = Promise.all(ends)
  return {
    tail: () => tail.trim(),
    async drained() {
      const patience = new AbortController()
      await Promise.race([
        all,
        sleep(CHILD_DRAIN_MS, undefined, { signal: patience.signal }).catch(() => undefined),
      ])
      patience.abort()
    },
  }
}
