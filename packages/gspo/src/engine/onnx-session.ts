/**
 * Sessions of ONNX Runtime: a lowered graph, frozen weights mapped from their files, typed arrays in and out. The
 * runtime's library is loaded with the first session, so that a process without an engine never pays for it.
 */
import path from 'node:path'
import type * as ort from 'onnxruntime-node'
import { GspoError } from '../errors.ts'
import type { Graph } from '../graph/graph.ts'
import type { OpKind } from '../graph/ops.ts'
import { lowerToOnnx } from '../onnx/lower.ts'
import type { CompileOptions, Feed, Session } from './engine.ts'
import { bindFeeds, checkIndices, indexBounds, type IndexBound } from './feeds.ts'
import { mappingAdvice } from './mapping-limit.ts'
import { loadOnnxRuntime } from './onnx-runtime.ts'

/** What is worth more than one thread. */
const PRODUCTS: ReadonlySet<OpKind> = new Set(['matmul', 'groupMatmul', 'groupOuter'])

/** How one session runs. */
export interface OnnxSessionOptions extends CompileOptions {
  readonly provider: 'cpu' | 'webgpu'
  readonly threads: number
  /** One of many sessions that run in turn: nothing is kept and no thread spins between two runs. */
  readonly isStage?: boolean
}

/** Compiles a graph; throws ENGINE_FAILED with the runtime's message, or ENGINE_UNAVAILABLE where it does not load. */
export async function compileOnnx(
  graph: Graph,
  { provider, threads, weights, isStage = false }: OnnxSessionOptions,
): Promise<Session> {
  const folder = weightFolder(graph)
  // A small graph beside the model's: threads of its own would take the cores from the model's, which wait spinning.
  const ownThreads = graph.tensors.some(({ op }) => PRODUCTS.has(op.kind)) ? threads : 1
  const model = lowerToOnnx(graph, folder, { weights, provider })
  const { InferenceSession, Tensor } = await loadOnnxRuntime()
  const session = await InferenceSession.create(model, {
    // What WebGPU cannot run falls back to the CPU by itself.
    executionProviders: [provider],
    intraOpNumThreads: ownThreads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    // Sizes change from run to run: a memory pattern would be planned anew each time and hold a third more.
    enableMemPattern: false,
    // Training passes are large and of many sizes: an arena would double what they take, and each session keep its own.
    enableCpuMemArena: weights === 'repack' && !isStage,
    logSeverityLevel: 3,
    extra: {
      session: {
        model_external_initializers_file_folder_path: folder,
        disable_prepacking: weights === 'share' ? '1' : '0',
        // Threads that spin while waiting starve the other processes of a small machine.
        intra_op: { allow_spinning: ownThreads > 1 && !isStage ? '1' : '0' },
      },
    },
  }).catch(async (cause: unknown) => {
    const reason = `${messageOf(cause)}${await mappingAdvice()}`
    throw new GspoError('ENGINE_FAILED', `onnxruntime refused the graph: ${reason}`, { cause })
  })
  return new OnnxSession(graph, session, Tensor)
}

class OnnxSession implements Session {
  private readonly inputs: Graph['inputs']
  private readonly bounds: readonly IndexBound[]
  private session: ort.InferenceSession | undefined
  readonly #toTensor: (feed: Feed) => ort.Tensor

  constructor(graph: Graph, session: ort.InferenceSession, Tensor: typeof ort.Tensor) {
    this.inputs = graph.inputs
    this.bounds = indexBounds(graph)
    this.session = session
    // What is fed again and again (an adapter's matrices, caches) is wrapped once.
    const wrapped = new WeakMap<Feed, ort.Tensor>()
    this.#toTensor = (feed) => {
      const known = wrapped.get(feed)
      if (known !== undefined) return known
      const { dims, values } = feed
      const tensor =
        values instanceof Float32Array
          ? new Tensor('float32', values, dims)
          : new Tensor('int32', values, dims)
      wrapped.set(feed, tensor)
      return tensor
    }
  }

  async run(
    feeds: Readonly<Record<string, Feed>>,
    into: Readonly<Record<string, Feed>> = {},
  ): Promise<Record<string, Feed>> {
    if (this.session === undefined) throw new GspoError('CLOSED', 'the session is closed')
    checkIndices(this.bounds, feeds, bindFeeds(this.inputs, feeds))
    const names = this.session.outputNames
    const fetches: Record<string, ort.Tensor | null> = {}
    for (const name of names) {
      const target = into[name]
      fetches[name] = target === undefined ? null : this.#toTensor(target)
    }
    const inputs: Record<string, ort.Tensor> = {}
    for (const name of this.session.inputNames) {
      const feed = feeds[name]
      if (feed === undefined) throw new GspoError('ENGINE_FAILED', `input ${name} was not fed`)
      inputs[name] = this.#toTensor(feed)
    }
    const results = await this.session.run(inputs, fetches).catch((cause: unknown) => {
      throw new GspoError('ENGINE_FAILED', `onnxruntime failed: ${messageOf(cause)}`, { cause })
    })
    return Object.fromEntries(
      names.map((name) => {
        const target = into[name]
        if (target === undefined) return [name, fromTensor(name, results[name])]
        discard(results[name], target)
        return [name, target]
      }),
    )
  }

  async close(): Promise<void> {
    const session = this.session
    this.session = undefined
    await session?.release()
  }
}

/**
 * Frees the copy that the binding makes even of an output that was written where the caller wanted it: a megabyte of
 * logits a token would make V8 collect all garbage every few dozen tokens, beside the engine's threads.
 */
function discard(copy: ort.OnnxValue | undefined, { values }: Feed): void {
  const copied = copy?.data
  if (!ArrayBuffer.isView(copied) || copied.buffer === values.buffer) return
  if (copied.buffer instanceof ArrayBuffer) copied.buffer.transfer(0)
}

function fromTensor(name: string, tensor: ort.OnnxValue | undefined): Feed {
  const values = tensor?.data
  if (tensor === undefined || !(values instanceof Float32Array || values instanceof Int32Array))
    throw new GspoError(
      'ENGINE_FAILED',
      `output ${name} is missing or of another type than float32 and int32`,
    )
  return { dims: tensor.dims, values }
}

/** The deepest folder that holds all weight files: locations of external data are relative to it. */
function weightFolder(graph: Graph): string {
  const files = graph.tensors.flatMap(({ op }) => (op.kind === 'weight' ? [op.source.file] : []))
  let folder = path.dirname(files[0] ?? process.cwd())
  while (!files.every((file) => file.startsWith(folder.endsWith(path.sep) ? folder : folder + path.sep)))
    folder = path.dirname(folder)
  return folder
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
