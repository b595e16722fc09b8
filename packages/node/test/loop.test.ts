/** The loop's decisions, with a ring and a trainer that do exactly what a test says. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import {
  decodeTrace,
  GspoError,
  type ReplayedStep,
  type StepRecord,
  type StepStats,
  type StepTrace,
  type TraceHeader,
  type Trainer,
} from '@gym-node/gspo'
import { RingError, type Ring, type RingErrorCode, type RoundResult, type View } from '@gym-node/ring'
import { NodeError } from '../src/errors.ts'
import { roundWeight, runLoop } from '../src/loop.ts'
import type { DeltaToWrite, LoopParts, WrittenDelta } from '../src/loop-parts.ts'
import { initialState, JobState, type InstallState } from '../src/state/job-state.ts'
import { TraceFile } from '../src/state/trace-file.ts'
import type { DaemonEvent } from '../src/status.ts'
import { temporaryFolder } from './delta-tools-fixtures.ts'

const AVERAGE = { kind: 'average', learningRate: 1, momentum: 0 } as const
const LAYOUT = { tensors: [{ name: 'a', shape: [1, 2] as const, offset: 0 }], length: 2 }
const COMMITMENT = new Uint8Array(32).fill(7)
const VIEW: View = { ringId: 'ring', epoch: 1, members: ['me'] }

/** A trainer whose every step adds 1 to each element of the adapter. */
class CountingTrainer {
  adapter = new Float32Array(2)
  steps = 0
  sampled = 0
  replayed = 0
  nextStepAdds = 1
  replayFault: Error | null = null

  async step(): Promise<StepRecord> {
    this.sampled++
    const stats = this.#learn()
    return { stats, trace: { step: this.steps, seed: 0, groups: [] }, rewardFailures: [], samples: [] }
  }
  async replay(steps: readonly StepTrace[]): Promise<ReplayedStep[]> {
    if (this.replayFault !== null) throw this.replayFault
    return steps.map(() => {
      this.replayed++
      return { stats: this.#learn(), expectedSeed: 0, groups: [] }
    })
  }
  #learn(): StepStats {
    this.steps++
    this.adapter = this.adapter.map((value) => value + this.nextStepAdds)
    return { step: this.steps, completions: 8, loss: 0.5, rewardMean: 0.25 } as StepStats
  }
  async importState(bytes: Uint8Array): Promise<void> {
    this.adapter = Float32Array.from(bytes)
    this.steps = 0
  }
  async readAdapter(): Promise<Float32Array> {
    return this.adapter.slice()
  }
  async writeAdapter(values: Float32Array): Promise<void> {
    this.adapter = values.slice()
  }
  async exportState(): Promise<Uint8Array> {
    return Uint8Array.from(this.adapter)
  }
}

type Answer = RingErrorCode | 'commit' | 'hang'

/** A ring of one that answers each all-reduce as told, and counts. */
class ScriptedRing {
  readonly peerId = 'me'
  readonly status = { members: [], activeRound: null }
  readonly offers: { round: number; weight: number; vector: Float32Array }[] = []
  readonly #answers: Answer[]
  onReady: (call: number) => Promise<void> = async () => undefined
  readyCalls = 0

  constructor(answers: Answer[]) {
    this.#answers = answers
  }

  async ready(): Promise<View> {
    this.readyCalls++
    await this.onReady(this.readyCalls)
    return VIEW
  }

  async allReduce(
    vector: Float32Array,
    o: { round: number; weight: number; commitment?: Uint8Array; signal?: AbortSignal },
  ): Promise<RoundResult> {
    this.offers.push({ round: o.round, weight: o.weight, vector: vector.slice() })
    const answer = this.#answers.shift() ?? 'commit'
    if (answer === 'hang') {
      await new Promise((_, reject) => {
        o.signal?.addEventListener('abort', () => reject(o.signal?.reason as Error))
      })
    } else if (answer !== 'commit') throw new RingError(answer, 'as told')
    return {
      round: o.round,
      view: VIEW,
      mean: vector.slice(),
      totalWeight: o.weight,
      hash: new Uint8Array(32),
      contributors: ['me'],
      contributions: [{ peerId: 'me', weight: o.weight, commitment: o.commitment ?? null }],
      attempts: 1,
      bytesSent: 0,
      bytesReceived: 0,
      durationMs: 0,
      release: () => undefined,
    }
  }
}

interface Bench {
  readonly trainer: CountingTrainer
  readonly ring: ScriptedRing
  readonly state: JobState
  readonly written: DeltaToWrite[]
  readonly events: DaemonEvent[]
  readonly stop: AbortController
  readonly abandon: AbortController
  readonly pause: AbortController
  readonly parts: LoopParts
}

function bench(answers: Answer[], rounds: number | null, install?: InstallState): Bench {
  const trainer = new CountingTrainer()
  const ring = new ScriptedRing(answers)
  const state = new JobState({
    state: initialState({ baseSha256: 'b', layout: LAYOUT, adapter: new Float32Array(2), outer: AVERAGE }),
    outer: AVERAGE,
    install: install ?? ((next) => trainer.writeAdapter(next.adapter)),
    onAdopted: () => undefined,
  })
  const written: DeltaToWrite[] = []
  const events: DaemonEvent[] = []
  const [stop, abandon, pause] = [new AbortController(), new AbortController(), new AbortController()]
  const parts: LoopParts = {
    ring: ring as unknown as Ring,
    trainer: trainer as unknown as Trainer,
    state,
    aggregateInterval: 2,
    overlap: false,
    rounds,
    openTrace: async () => null,
    writeDelta: async (delta) => {
      written.push(delta)
      return { commitment: COMMITMENT, sent: delta.values, residual: null }
    },
    recordRound: async () => undefined,
    minMembers: 1,
    emit: (event) => {
      events.push(event)
    },
    stop: stop.signal,
    abandon: abandon.signal,
    pause: pause.signal,
  }
  return { trainer, ring, state, written, events, stop, abandon, pause, parts }
}

describe('the loop', () => {
  it('takes the local steps, writes the delta before it offers it, commits, and ends at the limit', async () => {
    const { ring, state, written, parts, events } = bench([], 2)
    const offeredWhenWritten: number[] = []
    const end = await runLoop({
      ...parts,
      writeDelta: async (delta) => {
        written.push(delta)
        offeredWhenWritten.push(ring.offers.length)
        return { commitment: COMMITMENT, sent: delta.values, residual: null }
      },
    })
    assert.equal(end, 'limit')
    assert.deepEqual(
      ring.offers.map(({ round, weight }) => [round, weight]),
      [
        [1, 16],
        [2, 16],
      ],
    )
    assert.deepEqual(
      ring.offers.map(({ vector }) => [...vector]),
      [
        [2, 2],
        [2, 2],
      ],
    )
    assert.deepEqual(offeredWhenWritten, [0, 1])
    assert.deepEqual([...state.adapter], [4, 4])
    assert.deepEqual(
      written.map(({ round, steps }) => [round, steps.map((step) => step.step)]),
      [
        [1, [1, 2]],
        [2, [3, 4]],
      ],
    )
    assert.deepEqual(events.filter(({ type }) => type === 'round').length, 2)
  })

  for (const code of ['PEER_LOST', 'TIMEOUT', 'VIEW_CHANGED', 'HASH_MISMATCH', 'OUT_OF_SYNC'] as const) {
    it(`offers the same delta again after ${code}, without training it again`, async () => {
      const { trainer, ring, written, parts, events } = bench([code, code], 1)
      assert.equal(await runLoop(parts), 'limit')
      assert.equal(trainer.steps, 2)
      assert.equal(written.length, 1)
      assert.deepEqual(
        ring.offers.map(({ vector }) => [...vector]),
        [
          [2, 2],
          [2, 2],
          [2, 2],
        ],
      )
      assert.deepEqual(
        events.flatMap((event) => (event.type === 'error' ? [event.code] : [])),
        [code, code],
      )
    })
  }

  it('drops its delta and trains anew when the ring went on without it', async () => {
    const { ring, state, trainer, parts } = bench(['ROUND_SUPERSEDED'], 3)
    const other = bench([], 1)
    await runLoop(other.parts)
    await other.state.commit(2, Float32Array.of(10, 10))
    ring.onReady = async (call) => {
      if (call === 2) await state.adopt(await other.state.read(), other.state.current())
    }
    assert.equal(await runLoop(parts), 'limit')
    assert.deepEqual(
      ring.offers.map(({ round }) => round),
      [1, 3],
    )
    assert.deepEqual([...state.adapter], [14, 14])
    assert.equal(trainer.steps, 4)
  })

  it('ends at once when the state that it adopts is at the limit', async () => {
    const { ring, state, trainer, parts } = bench([], 1)
    const other = bench([], 1)
    await runLoop(other.parts)
    ring.onReady = async () => state.adopt(await other.state.read(), other.state.current())
    assert.equal(await runLoop(parts), 'limit')
    assert.equal(trainer.steps, 0)
  })

  it('stops inside an all-reduce when the round is abandoned', async () => {
    const { ring, state, stop, abandon, parts } = bench(['hang'], null)
    const end = runLoop({
      ...parts,
      emit: (event) => {
        if (event.type === 'state' && event.state === 'reducing') {
          queueMicrotask(() => {
            stop.abort(new Error('stop'))
            abandon.abort(new Error('abandon'))
          })
        }
      },
    })
    assert.equal(await end, 'stopped')
    assert.equal(ring.offers.length, 1)
    assert.equal(state.round, 0)
  })

  it('commits the all-reduce in progress when it is asked to stop, then stops', async () => {
    const { state, stop, parts } = bench([], null)
    const end = await runLoop({
      ...parts,
      emit: (event) => {
        if (event.type === 'state' && event.state === 'reducing') stop.abort(new Error('stop'))
      },
    })
    assert.equal(end, 'stopped')
    assert.equal(state.round, 1)
  })

  it('pauses at the boundary of a round', async () => {
    const { state, pause, parts } = bench([], null)
    const end = await runLoop({
      ...parts,
      emit: (event) => {
        if (event.type === 'step') pause.abort(new Error('pause'))
      },
    })
    assert.equal(end, 'paused')
    assert.equal(state.round, 1)
  })

  it('refuses a delta that is not finite before it writes or offers it', async () => {
    const { ring, trainer, written, parts } = bench([], 1)
    trainer.nextStepAdds = Infinity
    await assert.rejects(runLoop(parts), (error) => error instanceof NodeError && error.code === 'NON_FINITE')
    assert.equal(written.length, 0)
    assert.equal(ring.offers.length, 0)
  })

  it('passes on what trying again cannot mend', async () => {
    await assert.rejects(
      runLoop(bench(['LENGTH_MISMATCH'], 1).parts),
      (error) => error instanceof RingError && error.code === 'LENGTH_MISMATCH',
    )
    await assert.rejects(
      runLoop(bench([], 1, () => Promise.reject(new NodeError('STATE_FULL', 'full'))).parts),
      (error) => error instanceof NodeError && error.code === 'STATE_FULL',
    )
  })

  it('says that the state could not be kept even when it was asked to stop meanwhile', async () => {
    const { stop, parts } = bench([], 1, async () => {
      stop.abort(new Error('stop'))
      throw new NodeError('STATE_FULL', 'full')
    })
    await assert.rejects(runLoop(parts), (error) => error instanceof NodeError && error.code === 'STATE_FULL')
  })
})

describe('a round with a lossy delta', () => {
  /** Sends whole numbers: what is behind the point is left over. */
  const wholeNumbers = async ({ values, residual }: DeltaToWrite): Promise<WrittenDelta> => {
    const wanted = values.map((value, i) => value + (residual?.[i] ?? 0))
    const sent = wanted.map(Math.trunc)
    return { commitment: COMMITMENT, sent, residual: wanted.map((value, i) => value - (sent[i] ?? 0)) }
  }

  it('offers what the file holds, and sends in the next round what it lost', async () => {
    const { ring, trainer, state, parts } = bench([], 3)
    trainer.nextStepAdds = 0.75
    await runLoop({ ...parts, writeDelta: wholeNumbers })
    // 1.5 a round: 1, then 1.5 + 0.5, then 1.5 again.
    assert.deepEqual(
      ring.offers.map(({ vector }) => vector[0]),
      [1, 2, 1],
    )
    assert.deepEqual([...state.adapter], [4, 4])
    assert.deepEqual(state.residual, Float32Array.of(0.5, 0.5))
  })

  it('offers the same again after a fault and remembers the loss once', async () => {
    const { ring, trainer, state, parts } = bench(['PEER_LOST'], 1)
    trainer.nextStepAdds = 0.75
    await runLoop({ ...parts, writeDelta: wholeNumbers })
    assert.deepEqual(
      ring.offers.map(({ vector }) => vector[0]),
      [1, 1],
    )
    assert.deepEqual(state.residual, Float32Array.of(0.5, 0.5))
  })

  it('owes nothing when the ring committed the round without this delta', async () => {
    const { ring, trainer, state, parts } = bench([], 1)
    trainer.nextStepAdds = 0.75
    const whole = ring.allReduce.bind(ring)
    ring.allReduce = async (vector, o) => ({ ...(await whole(vector, o)), contributions: [] })
    await runLoop({ ...parts, writeDelta: wholeNumbers })
    assert.equal(state.residual, null)
  })
})

describe('a round that was interrupted', () => {
  const headerOf = (round: number, state: Uint8Array): TraceHeader => ({
    version: 2,
    job: 'j',
    workerId: 'me',
    round,
    stateBefore: Buffer.from(state).toString('hex'),
    model: { id: 'm', sha256: 'm' },
    dataset: { sha256: 'd', size: 1 },
    engine: 'e',
    versions: {},
    config: { model: 'm', dataset: 'd' },
  })

  async function interrupted(
    t: TestContext,
  ): Promise<{ parts: LoopParts; trainer: CountingTrainer; path: string }> {
    const path = join(await temporaryFolder(t), 'trace')
    const first = bench([], 1)
    const openTrace: LoopParts['openTrace'] = (round, state) => TraceFile.open(path, headerOf(round, state))
    const crashing = first.trainer
    const step = CountingTrainer.prototype.step.bind(crashing)
    crashing.step = async () => (crashing.steps === 2 ? Promise.reject(new Error('the power fails')) : step())
    await assert.rejects(runLoop({ ...first.parts, openTrace, aggregateInterval: 3 }), /the power fails/)
    const { trainer, parts } = bench([], 1)
    return { parts: { ...parts, openTrace, aggregateInterval: 3 }, trainer, path }
  }

  it('computes again the steps that the trace kept, and takes only the others anew', async (t) => {
    const { parts, trainer, path } = await interrupted(t)
    const writtenSteps: number[] = []
    await runLoop({
      ...parts,
      writeDelta: async (delta) => {
        writtenSteps.push(...delta.steps.map(({ step }) => step))
        return parts.writeDelta(delta)
      },
    })
    assert.deepEqual([trainer.replayed, trainer.sampled], [2, 1])
    assert.deepEqual(writtenSteps, [1, 2, 3])
    assert.equal(decodeTrace(await readFile(path)).steps.length, 3)
  })

  it('begins anew when the steps cannot be computed again, or are more than the interval now has', async (t) => {
    const broken = await interrupted(t)
    broken.trainer.replayFault = new GspoError('BAD_TRACE', 'as told')
    await runLoop(broken.parts)
    assert.deepEqual([broken.trainer.replayed, broken.trainer.sampled], [0, 3])
    assert.equal(decodeTrace(await readFile(broken.path)).steps.length, 3)

    const shorter = await interrupted(t)
    await runLoop({ ...shorter.parts, aggregateInterval: 1 })
    assert.deepEqual([shorter.trainer.replayed, shorter.trainer.sampled], [0, 1])
  })

  it('passes on that the engine died, for it to be started again', async (t) => {
    const { parts, trainer } = await interrupted(t)
    trainer.replayFault = new GspoError('ENGINE_DIED', 'as told')
    await assert.rejects(runLoop(parts), { code: 'ENGINE_DIED' })
  })
})

describe('the weight of a node', () => {
  it('is the completions that it sampled', () => {
    assert.equal(roundWeight([{ completions: 8 }, { completions: 16 }]), 24)
    assert.equal(roundWeight([]), 0)
  })
})
