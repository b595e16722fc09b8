/**
 * Where the time of a round goes on real daemons: rollout, reward, forward and backward, optimiser, all-reduce, and what
 * is left (state and delta written, waiting for the slowest). Medians over all nodes and rounds but the first, the demo
 * model on this machine. Run: node --conditions=gym-source bench/round.ts [--nodes 1,3] [--rounds 10]
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { StepStats } from '@gym-node/gspo'
import { median } from './lib/format.ts'

const { values } = parseArgs({
  options: { nodes: { type: 'string', default: '1,3' }, rounds: { type: 'string', default: '10' } },
})

type Part = 'rollout' | 'reward' | 'forward+backward' | 'optimiser' | 'all-reduce' | 'rest' | 'round'
const PARTS: readonly Part[] = [
  'rollout',
  'reward',
  'forward+backward',
  'optimiser',
  'all-reduce',
  'rest',
  'round',
]

/** The lines of `gym-node ring --json` that are read here. */
type Line =
  | { type: 'step'; node: number; round: number; stats: StepStats }
  | { type: 'round'; node: number; round: { round: number; duration_ms: number }; time: string }
  | { type: 'other' }

async function linesOf(nodes: number, out: string): Promise<Line[]> {
  const entry = fileURLToPath(new URL('../packages/node/bin/gym-node.js', import.meta.url))
  const args = [entry, 'ring', '--nodes', String(nodes), '--rounds', values.rounds, '--json', '--out', out]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines: Line[] = []
  for await (const text of createInterface({ input: child.stdout })) lines.push(JSON.parse(text) as Line)
  return lines
}

/** Milliseconds of every part, one entry a node and round. */
function roundsOf(lines: readonly Line[]): Record<Part, number>[] {
  const rounds: Record<Part, number>[] = []
  const steps = new Map<number, StepStats[]>()
  const lastEnd = new Map<number, number>()
  for (const line of lines) {
    if (line.type === 'step') steps.set(line.node, [...(steps.get(line.node) ?? []), line.stats])
    if (line.type !== 'round') continue
    const end = Date.parse(line.time)
    const begin = lastEnd.get(line.node)
    const seconds = (steps.get(line.node) ?? []).map((stats) => stats.seconds)
    steps.delete(line.node)
    lastEnd.set(line.node, end)
    if (begin === undefined) continue
    const total = (part: keyof StepStats['seconds']): number =>
      1000 * seconds.reduce((sum, of) => sum + of[part], 0)
    const known = {
      rollout: total('rollout'),
      reward: total('reward'),
      'forward+backward': total('forwardBackward'),
      optimiser: total('optimizer'),
      'all-reduce': line.round.duration_ms,
    }
    const round = end - begin
    rounds.push({ ...known, rest: round - Object.values(known).reduce((a, b) => a + b, 0), round })
  }
  return rounds
}

console.log(`| nodes | ${PARTS.map((part) => `${part} ms`).join(' | ')} |`)
console.log(`| --- | ${PARTS.map(() => '---').join(' | ')} |`)
for (const nodes of values.nodes.split(',').map(Number)) {
  const out = await mkdtemp(join(tmpdir(), 'gym-bench-'))
  try {
    const rounds = roundsOf(await linesOf(nodes, out))
    const cells = PARTS.map((part) => median(rounds.map((round) => round[part])).toFixed(1))
    console.log(`| ${nodes} | ${cells.join(' | ')} |`)
  } finally {
    await rm(out, { recursive: true, force: true })
  }
}
