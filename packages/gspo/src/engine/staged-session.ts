/** A session of several stages, run one after the other: what opens graphs that are too large for one. */
import { LARGEST_SESSION_EXPERTS, STAGE_NODES } from '../defaults.ts'
import type { Graph } from '../graph/graph.ts'
import { groupsOf, splitStages } from '../graph/stages.ts'
import type { Feed, Session } from './engine.ts'

/** Compiles one graph; `isStage` where it is one of many that run in turn. */
export type CompileGraph = (graph: Graph, isStage: boolean) => Promise<Session>

/** Compiles a graph in one piece, or in stages where its experts make it too large for that. */
export async function compileInStages(
  graph: Graph,
  compile: CompileGraph,
  limits: { readonly whole: number; readonly stage: number } = {
    whole: LARGEST_SESSION_EXPERTS,
    stage: STAGE_NODES,
  },
): Promise<Session> {
  const products = graph.tensors.reduce((sum, tensor) => sum + groupsOf(tensor), 0)
  if (products <= limits.whole) return compile(graph, false)
  const stages: Stage[] = []
  await using unfinished = new AsyncDisposableStack()
  for (const part of splitStages(graph, limits.stage)) {
    const session = await compile(part, true)
    unfinished.defer(() => session.close())
    stages.push({ session, inputs: part.inputs.map(({ name }) => name) })
  }
  unfinished.move()
  return new StagedSession(
    stages,
    graph.outputs.map(({ name }) => name),
  )
}

interface Stage {
  readonly session: Session
  readonly inputs: readonly string[]
}

class StagedSession implements Session {
  private readonly stages: readonly Stage[]
  private readonly outputs: ReadonlySet<string>
  /** For each stage, carried values that no later one takes. */
  private readonly spent: readonly (readonly string[])[]

  constructor(stages: readonly Stage[], outputs: readonly string[]) {
    this.stages = stages
    this.outputs = new Set(outputs)
    const last = new Map<string, number>()
    for (const [index, { inputs }] of stages.entries()) for (const name of inputs) last.set(name, index)
    const spent = stages.map((): string[] => [])
    for (const [name, index] of last) spent[index]?.push(name)
    this.spent = spent
  }

  async run(
    feeds: Readonly<Record<string, Feed>>,
    into: Readonly<Record<string, Feed>> = {},
  ): Promise<Record<string, Feed>> {
    const live = new Map<string, Feed>()
    const results: Record<string, Feed> = {}
    for (const [index, { session, inputs }] of this.stages.entries()) {
      const own: Record<string, Feed> = {}
      for (const name of inputs) {
        const feed = live.get(name) ?? feeds[name]
        if (feed !== undefined) own[name] = feed
      }
      for (const [name, feed] of Object.entries(await session.run(own, into))) {
        if (this.outputs.has(name)) results[name] = feed
        else live.set(name, feed)
      }
      for (const name of this.spent[index] ?? []) live.delete(name)
    }
    return results
  }

  async close(): Promise<void> {
    for (const { session } of this.stages) await session.close()
  }
}
