/** What runs a graph: compile once, run with any sizes of its symbols. Implementations: onnx-cpu, onnx-webgpu, tfjs. */
import type { Graph } from '../graph/graph.ts'

/** Values on their way into or out of a session. */
export interface Feed {
  readonly dims: readonly number[]
  readonly values: Float32Array | Int32Array
}

/** How a graph will be used. */
export interface CompileOptions {
  /**
   * `repack`: copy the frozen weights into the layout that is fastest for few rows (decoding).
   * `share`: use them where they lie in the page cache, shared by sessions and processes (training).
   */
  readonly weights: 'repack' | 'share'
}

/** A compiled graph. */
export interface Session {
  /**
   * Runs the graph; every input must be fed, what is no input is left alone. Outputs named in `into` are written there instead of to new memory.
   * Throws ENGINE_FAILED with the engine's message.
   */
  run(
    feeds: Readonly<Record<string, Feed>>,
    into?: Readonly<Record<string, Feed>>,
  ): Promise<Record<string, Feed>>
  close(): Promise<void>
}

/**
 * How an engine holds frozen weights: `mapped` from files whose numbers it can multiply with as they lie there, or
 * `copied` as float32 into its own memory, whatever floats the files hold.
 */
export type WeightHolding = 'mapped' | 'copied'

/** What an operator should know of an engine: one line for the log. */
export interface EngineNote {
  /** What computes, and why where it was chosen. */
  readonly text: string
  /** Whether it is much slower than it could be. */
  readonly isWarning: boolean
}

/** Compiles graphs. */
export interface Engine {
  readonly name: string
  readonly note: EngineNote
  /** Versions of its packages by name. */
  readonly versions: Readonly<Record<string, string>>
  compile(graph: Graph, options: CompileOptions): Promise<Session>
  /** Frees what the engine holds besides its sessions, which are closed by whoever opened them. */
  close(): Promise<void>
}
