/** What runs a graph: compile once, run with any sizes of its symbols. Implementations: onnx-cpu. */
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

/** Compiles graphs. */
export interface Engine {
  readonly name: string
  compile(graph: Graph, options: CompileOptions): Promise<Session>
  /** Frees what the engine holds besides its sessions, which are closed by whoever opened them. */
  close(): Promise<void>
}
