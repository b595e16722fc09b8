/**
 * The shared state of the job on this node: what the ring compares, sends to joiners and replaces here. A new
 * state is on disk and in the trainer before it becomes the current one.
 */
import type { AdapterLayout } from '@gym-node/gspo'
import type { StateProvider } from '@gym-node/ring'
import { canonicalJson, sha3_256 } from '@gym-node/wire'
import { NodeError } from '../errors.ts'
import { initialMomentum, outerUpdate, type OuterConfig } from '../outer.ts'
import { decodeSharedState, encodeSharedState, f32Bytes, type SharedState } from './shared-state.ts'

/** Makes a state and this node's residual durable and gives the adapter to the trainer; resolves when all is done. */
export type InstallState = (state: SharedState, residual: Float32Array | null) => Promise<void>

/** Current shared state and its hashes. */
export class JobState implements StateProvider {
  #state: SharedState
  #hash: Uint8Array
  #residual: Float32Array | null = null
  readonly #outer: OuterConfig
  readonly #install: InstallState
  readonly #onAdopted: (round: number) => void

  constructor(o: {
    state: SharedState
    outer: OuterConfig
    install: InstallState
    onAdopted: (round: number) => void
  }) {
    this.#state = o.state
    this.#hash = sha3_256(encodeSharedState(o.state))
    this.#outer = o.outer
    this.#install = o.install
    this.#onAdopted = o.onAdopted
  }

  get round(): number {
    return this.#state.round
  }

  /** Goes on from a state that this node committed before. Throws NodeError STATE_MISMATCH as `adopt` does. */
  resume(state: SharedState, residual: Float32Array | null): void {
    this.#refuseOther(state, 'the checkpoint is of')
    if (residual !== null && residual.length !== state.adapter.length) {
      throw new NodeError(
        'STATE_CORRUPT',
        `the checkpoint's residual has ${residual.length} elements, its adapter ${state.adapter.length}`,
      )
    }
    this.#state = state
    this.#residual = residual
    this.#hash = sha3_256(encodeSharedState(state))
  }

  /** The adapter at the start of the next round; read only. */
  get adapter(): Float32Array {
    return this.#state.adapter
  }

  /**
   * What this node's delta of the last round lost by its dtype and the next one sends; read only. This node's own: the
   * ring never compares it. Null after a round that did not count a lossy delta of this node, as after an adoption.
   */
  get residual(): Float32Array | null {
    return this.#residual
  }

  /** Hex SHA3-256 of the adapter's float32 little-endian bytes. */
  get adapterSha3(): string {
    return hex(sha3_256(f32Bytes(this.#state.adapter)))
  }

  /** Hex SHA3-256 of the whole shared state; changes exactly when the state does. */
  get stateSha3(): string {
    return hex(this.#hash)
  }

  current(): { round: number; hash: Uint8Array } {
    return { round: this.#state.round, hash: this.#hash }
  }

  async read(): Promise<Uint8Array> {
    return encodeSharedState(this.#state)
  }

  /** Takes over the ring's state. Throws NodeError STATE_MISMATCH when it is for another model or adapter. */
  async adopt(bytes: Uint8Array, at: { round: number; hash: Uint8Array }): Promise<void> {
    const hash = sha3_256(bytes)
    if (!Buffer.from(hash).equals(at.hash)) {
      throw new NodeError(
        'STATE_CORRUPT',
        `ring state hashes to ${hex(hash)}, the ring agreed on ${hex(at.hash)}`,
      )
    }
    const state = decodeSharedState(bytes)
    if (state.round !== at.round) {
      throw new NodeError('STATE_CORRUPT', `ring state is of round ${state.round}, the ring said ${at.round}`)
    }
    this.#refuseOther(state, 'the ring trains')
    await this.#install(state, null)
    this.#state = state
    this.#hash = hash
    this.#residual = null
    this.#onAdopted(state.round)
  }

  /**
   * Applies a committed round. `meanDelta` is the all-reduce's result, the same bytes on every node; `residual` what
   * this node's part of it lost.
   */
  async commit(round: number, meanDelta: Float32Array, residual: Float32Array | null = null): Promise<void> {
    const { adapter, momentum } = outerUpdate(
      this.#outer,
      this.#state.adapter,
      this.#state.momentum,
      meanDelta,
    )
    const state = { ...this.#state, round, adapter, momentum }
    await this.#install(state, residual)
    this.#state = state
    this.#hash = sha3_256(encodeSharedState(state))
    this.#residual = residual
  }

  #refuseOther(state: SharedState, who: string): void {
    const mine = this.#state
    if (state.baseSha256 !== mine.baseSha256) {
      throw new NodeError(
        'STATE_MISMATCH',
        `${who} a model with SHA-256 ${state.baseSha256}, train.model has ${mine.baseSha256}`,
      )
    }
    if (state.layoutSha3 !== mine.layoutSha3) {
      throw new NodeError(
        'STATE_MISMATCH',
        `${who} an adapter of another shape than train.lora_rank and train.lora_targets make`,
      )
    }
    const [theirs, own] = [state.adapterScale, mine.adapterScale]
    if (theirs !== undefined && own !== undefined && theirs !== own) {
      throw new NodeError(
        'STATE_MISMATCH',
        `${who} an adapter scaled by ${theirs}, train.lora_alpha, train.lora_rank and train.use_rslora make ${own}`,
      )
    }
    if (state.momentum.length !== mine.momentum.length) {
      throw new NodeError('STATE_MISMATCH', `${who} another outer optimiser than train.outer.kind`)
    }
  }
}

/** State of round 0: the trainer's initial adapter, nothing learned yet. */
export function initialState(o: {
  baseSha256: string
  layout: AdapterLayout
  adapterScale?: number
  adapter: Float32Array
  outer: OuterConfig
}): SharedState {
  return {
    round: 0,
    baseSha256: o.baseSha256,
    layoutSha3: layoutSha3(o.layout),
    ...(o.adapterScale === undefined ? {} : { adapterScale: o.adapterScale }),
    adapter: o.adapter,
    momentum: initialMomentum(o.outer, o.adapter.length),
  }
}

/** Hex SHA3-256 over the names and shapes of an adapter's tensors. */
export function layoutSha3(layout: AdapterLayout): string {
  const tensors = layout.tensors.map((tensor) => ({ name: tensor.name, shape: [...tensor.shape] }))
  return hex(sha3_256(Buffer.from(canonicalJson(tensors), 'utf8')))
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
