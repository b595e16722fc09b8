/** Delayed averaging (train.overlap): steps of the next round while this one is reduced. The sequences are by hand. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { StepRecord, StepStats, Trainer } from '@gym-node/gspo'
import { RingError, type Ring, type RoundResult, type View } from '@gym-node/ring'
import { runLoop } from '../src/loop.ts'
import type { DeltaToWrite, LoopParts } from '../src/loop-parts.ts'
import { initialState, JobState } from '../src/state/job-state.ts'
import type { SharedState } from '../src/state/shared-state.ts'

const AVERAGE = { kind: 'average', learningRate: 1, momentum: 0 } as const
const LAYOUT = { tensors: [{ name: 'a', shape: [1, 1] as const, offset: 0 }], length: 1 }
const VIEW: View = { ringId: 'ring', epoch: 1, members: ['me'] }

/** A step goes half the way to its target: a gradient that depends on where it is taken. */
class HalfwayTrainer {
  adapter = new Float32Array(1)
  steps = 0
  readonly target: number
  onStep: () => void = () => undefined

  constructor(target: number) {
    this.target = target
  }

  async step(): Promise<StepRecord> {
    this.steps++
    this.onStep()
    this.adapter = this.adapter.map((value) => value + (this.target - value) / 2)
    const stats = { step: this.steps, completions: 8, loss: 0, rewardMean: 0 } as StepStats
    return { stats, trace: { step: this.steps, seed: 0, groups: [] }, rewardFailures: [], samples: [] }
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

/** Averages what all its members bring to a round, once they are all there; `before` may do something first. */
class MeanRing {
  readonly #size: number
  #waiting: { vector: Float32Array; done: (mean: Float32Array) => void }[] = []
  before: (round: number) => Promise<void> = async () => undefined

  constructor(size: number) {
    this.#size = size
  }

  member(onReady: () => Promise<void> = async () => undefined): Ring {
    const ring = {
      peerId: 'me',
      view: VIEW,
      status: { members: [], activeRound: null },
      ready: async (): Promise<View> => {
        await onReady()
        return VIEW
      },
      allReduce: async (
        vector: Float32Array,
        o: { round: number; weight: number; commitment?: Uint8Array },
      ): Promise<RoundResult> => {
        await this.before(o.round)
        const mean = await new Promise<Float32Array>((done) => {
          this.#waiting.push({ vector, done })
          if (this.#waiting.length < this.#size) return
          const all = this.#waiting
          this.#waiting = []
          const sum = vector.map((_, i) => all.reduce((total, each) => total + (each.vector[i] ?? 0), 0))
          for (const each of all) each.done(sum.map((value) => value / all.length))
        })
        const own = { peerId: 'me', weight: o.weight, commitment: o.commitment ?? null }
        return {
          round: o.round,
          view: VIEW,
          mean,
          totalWeight: 1,
          hash: new Uint8Array(32),
          contributors: ['me'],
          contributions: [own],
          attempts: 1,
          bytesSent: 0,
          bytesReceived: 0,
          durationMs: 0,
          release: () => undefined,
        }
      },
    }
    return ring as unknown as Ring
  }
}

interface Worker {
  readonly trainer: HalfwayTrainer
  readonly state: JobState
  readonly written: DeltaToWrite[]
  /** the adapter after every commit and adoption */
  readonly adapters: number[]
  readonly stop: AbortController
  readonly parts: LoopParts
}

function worker(ring: Ring, target: number, rounds: number | null): Worker {
  const trainer = new HalfwayTrainer(target)
  const adapters: number[] = []
  const state = new JobState({
    state: initialState({ baseSha256: 'b', layout: LAYOUT, adapter: new Float32Array(1), outer: AVERAGE }),
    outer: AVERAGE,
    install: async (next: SharedState) => {
      adapters.push(next.adapter[0] ?? NaN)
      await trainer.writeAdapter(next.adapter)
    },
    onAdopted: () => undefined,
  })
  const written: DeltaToWrite[] = []
  const stop = new AbortController()
  const parts: LoopParts = {
    ring,
    trainer: trainer as unknown as Trainer,
    state,
    aggregateInterval: 1,
    overlap: true,
    minMembers: 1,
    rounds,
    openTrace: async () => null,
    writeDelta: async (delta) => {
      written.push(delta)
      return { commitment: new Uint8Array(32).fill(delta.round), sent: delta.values, residual: null }
    },
    recordRound: async () => undefined,
    emit: () => undefined,
    stop: stop.signal,
    abandon: new AbortController().signal,
    pause: new AbortController().signal,
  }
  return { trainer, state, written, adapters, stop, parts }
}

describe('delayed averaging', () => {
  it('applies every delta one round late, on the state that the round before it made', async () => {
    const { written, adapters, parts } = worker(new MeanRing(1).member(), 8, 5)
    assert.equal(await runLoop(parts), 'limit')
    // a[r+1] = a[r] + (8 - a[r-1]) / 2 with a[0] = 0; without overlap it would be 4, 6, 7, 7.5, 7.75.
    assert.deepEqual(adapters, [4, 8, 10, 10, 9])
    assert.deepEqual(
      written.map(({ round, values }) => [round, values[0]]),
      [
        [1, 4],
        [2, 4],
        [3, 2],
        [4, 0],
        [5, -1],
      ],
    )
    // The base that the file names is the one the steps started from: what a replay needs.
    assert.deepEqual(
      written.map(({ adapterBefore, adapterAfter }) => [adapterBefore[0], adapterAfter[0]]),
      [
        [0, 4],
        [0, 4],
        [4, 6],
        [8, 8],
        [10, 9],
      ],
    )
  })

  it('takes the steps of the next round while the reduction is still under way', async () => {
    const ring = new MeanRing(1)
    const { trainer, parts } = worker(ring.member(), 8, 2)
    const stepped = Promise.withResolvers<void>()
    trainer.onStep = () => {
      if (trainer.steps === 2) stepped.resolve()
    }
    // Round 1 cannot end before a step of round 2 has begun; a loop without overlap would wait for ever.
    ring.before = (round) => (round === 1 ? stepped.promise : Promise.resolve())
    assert.equal(await runLoop(parts), 'limit')
    assert.equal(trainer.steps, 2, 'and none is taken for a round beyond the last')
  })

  it('keeps two nodes in the same state, bit for bit', async () => {
    const ring = new MeanRing(2)
    const [a, b] = [worker(ring.member(), 8, 6), worker(ring.member(), -3, 6)]
    await Promise.all([runLoop(a.parts), runLoop(b.parts)])
    assert.deepEqual(a.adapters, b.adapters)
    assert.equal(a.state.stateSha3, b.state.stateSha3)
    // The mean of both steps is a step towards 2.5: a[r+1] = a[r] + (2.5 - a[r-1]) / 2.
    assert.deepEqual(a.adapters.slice(0, 4), [1.25, 2.5, 3.125, 3.125])
  })

  it('offers the same delta again after a broken round, without a further step', async () => {
    const ring = new MeanRing(1)
    const { trainer, written, adapters, parts } = worker(ring.member(), 8, 3)
    let breaks = 2
    ring.before = async (round) => {
      if (round === 2 && breaks-- > 0) throw new RingError('PEER_LOST', 'as told')
    }
    assert.equal(await runLoop(parts), 'limit')
    assert.deepEqual(adapters, [4, 8, 10])
    assert.equal(written.length, 3)
    assert.equal(trainer.steps, 3)
  })

  it('drops what it has when the ring went on without it, and begins anew from the state it takes over', async () => {
    const mean = new MeanRing(1)
    let isBehind = false
    const adopt = async (): Promise<void> => {
      if (!isBehind) return
      isBehind = false
      const ahead = new JobState({
        state: {
          ...initialState({ baseSha256: 'b', layout: LAYOUT, adapter: Float32Array.of(6), outer: AVERAGE }),
          round: 2,
        },
        outer: AVERAGE,
        install: async () => undefined,
        onAdopted: () => undefined,
      })
      await w.state.adopt(await ahead.read(), ahead.current())
    }
    const w = worker(mean.member(adopt), 8, 4)
    let superseded = false
    mean.before = async (round) => {
      if (round !== 2 || superseded) return
      superseded = isBehind = true
      throw new RingError('ROUND_SUPERSEDED', 'as told')
    }
    assert.equal(await runLoop(w.parts), 'limit')
    // 4 by round 1; 6 taken over as round 2; then from 6: +1 (round 3) and, one round late, from 6 again: +1 (round 4).
    assert.deepEqual(w.adapters, [4, 6, 7, 8])
    assert.deepEqual(
      w.written.map(({ round, adapterBefore }) => [round, adapterBefore[0]]),
      [
        [1, 0],
        [2, 0],
        [3, 6],
        [4, 6],
      ],
    )
  })

  it('commits the round under way when it is stopped, and takes no further step', async () => {
    const ring = new MeanRing(1)
    const w = worker(ring.member(), 8, null)
    ring.before = async (round) => {
      if (round === 2) w.stop.abort(new Error('stopping'))
    }
    assert.equal(await runLoop(w.parts), 'stopped')
    assert.deepEqual(w.adapters, [4, 8])
  })

  it('goes on from its own state after a restart: what was ahead is lost, and only that', async () => {
    const first = worker(new MeanRing(1).member(), 8, 2)
    await runLoop(first.parts)
    const second = worker(new MeanRing(1).member(), 8, 4)
    await second.state.adopt(await first.state.read(), first.state.current())
    assert.equal(await runLoop(second.parts), 'limit')
    // 8 taken over; its own first delta is from 8, not from 4: no step; one round late from 8 again: none.
    assert.deepEqual(second.adapters, [8, 8, 8])
    assert.deepEqual(
      second.written.map(({ adapterBefore }) => adapterBefore[0]),
      [8, 8],
    )
  })
})
