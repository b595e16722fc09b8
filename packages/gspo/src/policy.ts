/** Loads a model folder into a `Policy`: compiled graphs, one adapter, rotary tables. Graphs compile when first used. */
import { stat } from 'node:fs/promises'
import { batchTokens, checkBatch, packBatch, splitRows, type PackedBatch } from './batch.ts'
import { promptsAtOnce, type DecodingDemand } from './decoding-memory.ts'
import { startDecoding } from './decoding.ts'
import { DEFAULT_QUANT_BLOCK } from './defaults.ts'
import type { Engine, Feed, Session } from './engine/engine.ts'
import { createEngine, weightsOf } from './engine/create.ts'
import { GspoError } from './errors.ts'
import type { Graph } from './graph/graph.ts'
import type { WeightSource } from './graph/ops.ts'
import { adapterLayout, checkLoraConfig, initialAdapter } from './lora.ts'
import { lossFeeds, lossMetrics, lossWeights } from './loss-terms.ts'
import { readModelConfig } from './models/config.ts'
import type { ModelConfig } from './models/model-config.ts'
import { decodeGraph, partSumsGraph, probabilityGraph, vocabularyPart } from './models/decode-graph.ts'
import { VOCABULARY_INPUT } from './models/head.ts'
import { ADAPTER_INPUT, headName } from './models/layers.ts'
import { lossVariant, type LossVariant } from './models/loss.ts'
import { loraSites } from './models/modules.ts'
import { createRopeCache, type RopeCache } from './models/rope.ts'
import { splitLayers } from './models/segment-graphs.ts'
import {
  lossAndGradientGraph,
  ONE_PART,
  scoreGraph,
  type BatchShape,
  type ModelSource,
} from './models/training-graph.ts'
import type {
  Decoding,
  DecodingRoom,
  DrawScores,
  LossBatch,
  LossConfig,
  LossResult,
  ModelSummary,
  Policy,
  PolicyOptions,
  TokenBatch,
  TokenScores,
} from './policy-types.ts'
import { engineDemand, headParts, planTraining, type MemoryRequest } from './memory.ts'
import { ReachedExperts } from './reached-experts.ts'
import { runSegments } from './segments.ts'
import { emptyScores, scatterScores } from './token-scores.ts'
import { hashFiles, openCheckpoint, type Checkpoint } from './weights/checkpoint.ts'
import { prepareCheckpoint, type MatrixUses } from './weights/prepare.ts'

export type * from './policy-types.ts'

/**
 * Loads a Hugging Face folder.
 * Throws FILE_MISSING, BAD_SAFETENSORS, BAD_MODEL_CONFIG, UNKNOWN_ARCHITECTURE, TENSOR_MISSING, TENSOR_SHAPE,
 * BAD_OPTION or ENGINE_UNAVAILABLE.
 */
export async function loadPolicy(options: PolicyOptions): Promise<Policy> {
  const { modelDir, lora, threads } = options
  checkLoraConfig(lora)
  if (!Number.isInteger(threads) || threads < 1)
    throw new GspoError('BAD_OPTION', `threads is ${threads}; it must be a whole number of at least 1`)
  const folder = await stat(modelDir).catch(() => undefined)
  if (folder?.isDirectory() !== true)
    throw new GspoError('FILE_MISSING', `${modelDir} is no folder; give the folder of a Hugging Face model`)
  const config = await readModelConfig(modelDir)
  const checkpoint = await openCheckpoint(modelDir)
  const layout = adapterLayout(loraSites(config, lora), lora.rank)
  const use4bit = options.use4bit === true
  const use8bitHead = use4bit && options.use8bitHead === true
  const limitBytes = options.memoryLimitMb === undefined ? undefined : options.memoryLimitMb * 2 ** 20
  const quantBlock = options.quantBlock ?? DEFAULT_QUANT_BLOCK
  const weights = weightsOf(options.engine)
  const memory: MemoryRequest = {
    config,
    parameters: checkpoint.parameters,
    use4bit,
    use8bitHead,
    quantBlock,
    weights,
    limitBytes,
    checkpointing: options.gradientCheckpointing ?? 'auto',
  }
  // A limit that the longest sequence does not fit shows now.
  const longest = options.longestSequence ?? 1
  planTraining(memory, { longest, all: longest })
  // Building the graph asks for every tensor: what is missing or misshapen shows now, not at the first step.
  const matrices = matrixUses(scoreGraph({ config, checkpoint, lora, layout }, ONE_PART), headName(config))
  await using unfinished = new AsyncDisposableStack()
  const engine = await createEngine(options.engine, { threads, demand: engineDemand(memory) })
  unfinished.defer(() => engine.close())
  const model = await summarise(config, checkpoint)
  const prepared = await prepareCheckpoint(checkpoint, matrices, {
    modelSha256: model.sha256,
    ...(options.cacheFolder === undefined ? {} : { cacheFolder: options.cacheFolder }),
    use4bit,
    use8bitHead,
    block: quantBlock,
    canWiden: weights === 'copied',
  })
  unfinished.defer(() => prepared.dispose())
  const source = { config, checkpoint: prepared, lora, layout }
  const policy = new GraphPolicy(model, source, engine, {
    memory,
    headParts: options.headParts,
    dispose: () => prepared.dispose(),
  })
  unfinished.move()
  return policy
}

async function summarise(config: ModelConfig, checkpoint: Checkpoint): Promise<ModelSummary> {
  return {
    architecture: config.architecture,
    vocabSize: config.vocabSize,
    hiddenSize: config.hiddenSize,
    layers: config.layers,
    maxPositions: config.maxPositions,
    eosTokenIds: config.eosTokenIds,
    padTokenId: config.padTokenId,
    parameters: checkpoint.parameters,
    sha256: await hashFiles(checkpoint.files),
  }
}

/** The frozen matrices that a graph multiplies with, the head apart. */
function matrixUses(graph: Graph, head: string): MatrixUses {
  const sources = new Map<string, WeightSource>()
  for (const { op, inputs } of graph.tensors)
    for (const { op: input } of op.kind === 'matmul' || op.kind === 'groupMatmul' ? inputs : [])
      if (input.kind === 'weight') sources.set(input.source.name, input.source)
  const found = sources.get(head)
  if (found === undefined) throw new GspoError('BAD_GRAPH', `no product with the head ${head}`)
  sources.delete(head)
  return { linears: [...sources.values()], head: found }
}

class GraphPolicy implements Policy {
  readonly model: ModelSummary
  readonly engine: string
  readonly engineNote: Policy['engineNote']
  readonly engineVersions: Policy['engineVersions']
  readonly adapterLayout: Policy['adapterLayout']
  private readonly source: ModelSource
  private readonly runner: Engine
  private readonly memory: MemoryRequest
  /** Parts of the vocabulary, where the caller says how many. */
  private readonly headParts: number | undefined
  private readonly dispose: () => Promise<void>
  private readonly sessions = new Map<string, Promise<Session>>()
  private readonly adapter: Feed
  private readonly noAdapter: Feed
  /** Views of `adapter`, one a matrix. */
  private readonly matrices: Readonly<Record<string, Feed>>
  private readonly ropeFeeds: RopeCache
  private isClosed = false

  constructor(
    model: ModelSummary,
    source: ModelSource,
    engine: Engine,
    {
      memory,
      headParts,
      dispose,
    }: { memory: MemoryRequest; headParts: number | undefined; dispose: () => Promise<void> },
  ) {
    this.headParts = headParts
    this.memory = memory
    this.model = model
    this.source = source
    this.runner = engine
    this.engine = engine.name
    this.engineNote = engine.note
    this.engineVersions = engine.versions
    this.dispose = dispose
    this.adapterLayout = source.layout
    this.ropeFeeds = createRopeCache(source.config)
    const { length } = source.layout
    const values = new Float32Array(length)
    this.adapter = { dims: [length], values }
    this.matrices = Object.fromEntries(
      source.layout.tensors.map(({ name, shape, offset }) => [
        name,
        { dims: shape, values: values.subarray(offset, offset + shape[0] * shape[1]) },
      ]),
    )
    this.noAdapter = { dims: [length], values: new Float32Array(length) }
  }

  initialAdapter(seed: number): Float32Array {
    return initialAdapter(this.adapterLayout, seed)
  }

  setAdapter(values: Float32Array): void {
    if (values.length !== this.adapterLayout.length)
      throw new GspoError(
        'BAD_ADAPTER',
        `adapter has ${values.length} numbers, this model and rank need ${this.adapterLayout.length}`,
      )
    this.adapter.values.set(values)
  }

  async logprobs(
    batch: TokenBatch,
    options: { temperature: number; adapter: boolean },
  ): Promise<TokenScores> {
    checkBatch(batch, this.model.vocabSize)
    const scores = emptyScores(batch)
    for (const part of this.parts(batch)) {
      const { shape } = part
      const key = `score ${JSON.stringify(shape)}`
      const session = await this.session(key, () => scoreGraph(this.source, shape), 'share')
      const out = await session.run({
        ...part.feeds,
        ...this.modelFeeds(part, options.temperature),
        [ADAPTER_INPUT]: options.adapter ? this.adapter : this.noAdapter,
      })
      scatterScores(scores, batch, part, out)
    }
    return scores
  }

  async drawScores(batch: TokenBatch, { temperature }: { temperature: number }): Promise<DrawScores> {
    checkBatch(batch, this.model.vocabSize)
    const scores = { ...emptyScores(batch), below: new Float32Array(batch.rows * batch.completionLength) }
    const { vocabSize } = this.model
    const vocabulary = {
      dims: [1, vocabSize],
      values: Float32Array.from({ length: vocabSize }, (_, id) => id),
    }
    for (const part of this.parts(batch)) {
      const { shape } = part
      const key = `draw ${JSON.stringify(shape)}`
      const session = await this.session(key, () => scoreGraph(this.source, shape, true), 'share')
      const out = await session.run({
        ...part.feeds,
        ...this.modelFeeds(part, temperature),
        [VOCABULARY_INPUT]: vocabulary,
        [ADAPTER_INPUT]: this.adapter,
      })
      scatterScores(scores, batch, part, out)
    }
    return scores
  }

  async lossAndGradient(batch: LossBatch, loss: LossConfig): Promise<LossResult> {
    checkBatch(batch, this.model.vocabSize)
    if (loss.beta !== 0 && batch.refLogps === null)
      throw new GspoError('BAD_BATCH', `beta is ${loss.beta}, so the batch needs refLogps`)
    const variant = lossVariant(loss, batch.oldLogps === null)
    const weights = lossWeights(batch, loss)
    const scores = emptyScores(batch)
    const gradient = new Float32Array(this.adapterLayout.length)
    const reached = new ReachedExperts(this.source.config)
    let total = 0
    const plan = planTraining(this.memory, batchTokens(batch))
    for (const part of this.parts(batch, plan)) {
      const out = await this.lossPass(variant, part.shape, plan.segments, {
        ...part.feeds,
        ...this.modelFeeds(part, loss.temperature),
        // Each part balances its own tokens; parts count by their rows, as micro-batches do in TRL.
        balance: scalarFeed((loss.router_aux_loss_coef * part.rows) / batch.rows),
        ...lossFeeds(batch, part, loss, weights),
      })
      scatterScores(scores, batch, part, out)
      total += out['loss']?.values[0] ?? NaN
      addTo(gradient, out['gradient']?.values)
      reached.note(out['expert_tokens'])
    }
    return {
      loss: total,
      gradient,
      metrics: lossMetrics(batch, loss, scores),
      scores,
      unreached: reached.unreached(this.adapterLayout),
    }
  }

  /** Forward and backward: in one piece where memory allows it, else in segments of layers. */
  private async lossPass(
    variant: LossVariant,
    shape: BatchShape,
    segments: number,
    feeds: Readonly<Record<string, Feed>>,
  ): Promise<Record<string, Feed>> {
    const { source } = this
    if (segments > 1)
      return runSegments({
        source,
        segments: splitLayers(source.config.layers, segments),
        variant,
        shape,
        feeds: { ...feeds, ...this.matrices },
        session: (key, graph) => this.session(key, graph, 'share'),
      })
    const session = await this.session(
      `loss ${JSON.stringify([variant, shape])}`,
      () => lossAndGradientGraph(source, variant, shape),
      'share',
    )
    return session.run({ ...feeds, [ADAPTER_INPUT]: this.adapter })
  }

  promptsAtOnce(demand: DecodingDemand): number {
    return promptsAtOnce(this.memory, demand)
  }

  async startDecoding(prompts: readonly Int32Array[], room?: DecodingRoom): Promise<Decoding> {
    const session = await this.session('decode', () => decodeGraph(this.source), 'repack')
    return startDecoding(
      {
        config: this.source.config,
        session,
        probabilitySession: () =>
          this.session('probabilities', () => probabilityGraph(this.model.vocabSize), 'repack'),
        partSumsSession: async () => {
          const { vocabSize } = this.model
          const part = vocabularyPart(vocabSize)
          if (part === undefined) return undefined
          return this.session('part sums', () => partSumsGraph(vocabSize, part), 'repack')
        },
        adapter: this.matrices,
        ropeTables: this.ropeFeeds,
      },
      prompts,
      room,
    )
  }

  async close(): Promise<void> {
    this.isClosed = true
    const sessions = [...this.sessions.values()]
    this.sessions.clear()
    for (const session of sessions) await (await session).close()
    await this.runner.close()
    await this.dispose()
  }

  private session(key: string, graph: () => Graph, weights: 'share' | 'repack'): Promise<Session> {
    if (this.isClosed) throw new GspoError('CLOSED', 'this policy is closed')
    const known = this.sessions.get(key)
    if (known !== undefined) return known
    const compiling = this.runner.compile(graph(), { weights })
    this.sessions.set(key, compiling)
    return compiling
  }

  /** Cuts a batch into parts that fit, whole groups as long as one fits. */
  private *parts(
    batch: TokenBatch,
    { tokens, headLogits } = planTraining(this.memory, batchTokens(batch)),
  ): Generator<PackedBatch> {
    for (const part of splitRows(batch, tokens)) {
      const packed = packBatch(batch, {
        ...part,
        headParts: (scored) => this.headParts ?? headParts(scored, this.model.vocabSize, headLogits),
        isWhole: this.source.config.moe !== null,
        windows: this.source.config.windows,
        isChunked: this.source.config.linear !== null,
      })
      if (packed.slots.length > 0) yield packed
    }
  }

  private modelFeeds(part: PackedBatch, temperature: number): Record<string, Feed> {
    if (!(temperature > 0))
      throw new GspoError('BAD_OPTION', `temperature is ${temperature}; the loss needs one above 0`)
    return { ...this.ropeFeeds(part.positions), inverse_temperature: scalarFeed(1 / temperature) }
  }
}

function addTo(sum: Float32Array, part: Feed['values'] | undefined): void {
  if (part?.length !== sum.length)
    throw new GspoError('ENGINE_FAILED', `gradient has ${part?.length} numbers, expected ${sum.length}`)
  for (let i = 0; i < sum.length; i++) sum[i] = sum[i] + part[i]
}

function scalarFeed(value: number): Feed {
  return { dims: [], values: Float32Array.of(value) }
}
