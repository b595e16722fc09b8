/** One frame of the live view: the run as lines that fit a width. Pure; colours by node:util, NO_COLOR obeyed. */
import { styleText } from 'node:util'
import { formatBytes, formatCount, formatDuration, formatPercent, shortPeer } from '../cli/format.ts'
import { axisBounds, drawBar, drawCurve } from './curve.ts'
import { bytesSent, rewardCurve, type NodeModel, type RunModel } from './run-model.ts'
import type { Accuracy } from './evaluation.ts'

/** What a frame shows besides the run. */
export interface FrameFacts {
  readonly title: string
  readonly before: Accuracy | null
  readonly elapsedMs: number
  /** Columns of the terminal. */
  readonly width: number
  readonly colour: boolean
}

const MAX_WIDTH = 100
const NARROW = 72
const CURVE_HEIGHT = 4
const BAR_WIDTH = 12
const LABEL_WIDTH = 8

type Style = Parameters<typeof styleText>[0]

/** The lines of the frame. No line is longer than the width. */
export function renderFrame(run: RunModel, facts: FrameFacts): string[] {
  const width = Math.max(40, Math.min(facts.width, MAX_WIDTH))
  const paint = (style: Style, text: string): string =>
    facts.colour ? styleText(style, text, { validateStream: false }) : text
  return [
    '',
    ...header(facts, width, paint),
    '',
    ...nodeTable(run, width, paint),
    '',
    ...ringLines(run, width, paint),
    '',
    ...curveLines(run, width, paint),
    '',
  ]
}

type Paint = (style: Style, text: string) => string

function header(facts: FrameFacts, width: number, paint: Paint): string[] {
  const clock = formatClock(facts.elapsedMs)
  const name = ' gym-node ring'
  const title = clip(`  ${facts.title}`, width - name.length - clock.length - 2)
  const gap = ' '.repeat(Math.max(1, width - name.length - title.length - clock.length - 1))
  const lines = [`${paint('bold', name)}${paint('dim', title)}${gap}${clock}`]
  if (facts.before !== null) lines.push(paint('dim', clip(` before  ${accuracyText(facts.before)}`, width)))
  return lines
}

/** Accuracy in words: sampled 35.1 %, greedy 62.7 % of 1,000 held-out prompts. */
export function accuracyText(accuracy: Accuracy): string {
  return `sampled ${formatPercent(accuracy.sampled.accuracy)}, greedy ${formatPercent(accuracy.greedy.accuracy)} of ${formatCount(accuracy.greedy.samples)} held-out prompts`
}

function nodeTable(run: RunModel, width: number, paint: Paint): string[] {
  const narrow = width < NARROW
  const bar = narrow ? 0 : BAR_WIDTH
  const head = ` node  ${'state'.padEnd(18)}${'step'.padStart(5)}  ${'reward'.padEnd(7 + bar)}${'loss'.padStart(9)}${'tok/s'.padStart(9)}`
  return [
    paint('dim', clip(narrow ? head : `${head}  peer`, width)),
    ...run.nodes.map((node) => nodeLine(node, bar, width, paint)),
  ]
}

function nodeLine(node: NodeModel, bar: number, width: number, paint: Paint): string {
  const [mark, style] = markOf(node)
  const reward = node.reward === null ? '–'.padEnd(6) : node.reward.toFixed(3).padEnd(6)
  const state = node.state === 'gone' ? (node.ending ?? 'gone') : node.state.replaceAll('_', ' ')
  if (node.state === 'gone')
    return ` ${paint(style, mark)} ${node.index + 1}   ${paint(style, clip(state, width - 8))}`
  const cells = `${state.padEnd(18)}${String(node.step).padStart(5)}  ${reward} `
  const rest = `${number(node.loss, 4).padStart(9)}${number(node.tokensPerSecond, 0).padStart(9)}`
  const filled = bar === 0 ? '' : paint(style, drawBar(node.reward ?? 0, bar))
  const peer = bar === 0 || node.peerId === null ? '' : paint('dim', `  ${shortPeer(node.peerId)}`)
  return ` ${paint(style, mark)} ${node.index + 1}   ${cells}${filled}${rest}${peer}`
}

function markOf(node: NodeModel): [string, Style] {
  switch (node.state) {
    case 'training':
      return ['●', 'green']
    case 'reducing':
      return ['◆', 'cyan']
    case 'gone':
      return node.ending === null ? ['✓', 'green'] : ['✗', 'red']
    case 'failed':
      return ['✗', 'red']
    case 'stopping':
      return ['✓', 'green']
    case 'starting':
    case 'syncing':
    case 'waiting_for_peers':
    case 'paused':
      return ['○', 'yellow']
  }
}

function ringLines(run: RunModel, width: number, paint: Paint): string[] {
  const round = run.lastRound?.round ?? 0
  const view =
    run.epoch === null
      ? 'forming'
      : `view ${run.epoch}, ${run.members} ${run.members === 1 ? 'member' : 'members'}`
  const progress = `round ${round}/${run.roundLimit} `
  const barWidth = Math.max(8, Math.min(30, width - LABEL_WIDTH - view.length - progress.length - 6))
  const lines = [
    ` ${paint('bold', 'ring')}   ${view}   ${progress}${paint('cyan', `▕${drawBar(round / run.roundLimit, barWidth)}▏`)}`,
  ]
  const last = run.lastRound
  const facts = [
    `${formatBytes(bytesSent(run))} sent`,
    ...(last === null
      ? []
      : [
          `last all-reduce ${formatDuration(last.duration_ms)}`,
          `adapter ${last.adapter_sha3_256.slice(0, 12)}`,
        ]),
  ]
  lines.push(paint('dim', clip(`        ${facts.join(' · ')}`, width)))
  return lines
}

function curveLines(run: RunModel, width: number, paint: Paint): string[] {
  const values = rewardCurve(run)
  const { low, high } = axisBounds(values)
  const rows = drawCurve(values, { width: width - LABEL_WIDTH - 8, height: CURVE_HEIGHT, low, high })
  const axis = (row: number): string =>
    (row === 0 ? high.toFixed(2) : row === CURVE_HEIGHT - 1 ? low.toFixed(2) : '').padStart(5)
  const lines = rows.map(
    (text, row) =>
      ` ${row === 0 ? paint('bold', 'reward') : '      '} ${paint('dim', axis(row))} ${paint('green', text)}`,
  )
  const first = values[0]
  const newest = values.at(-1)
  if (first === undefined || newest === undefined)
    lines.push(paint('dim', '        mean reward of each round appears here'))
  else
    lines.push(
      paint('dim', `        mean reward of a round: ${first.toFixed(3)} at first, ${newest.toFixed(3)} now`),
    )
  return lines
}

function number(value: number | null, digits: number): string {
  if (value === null) return '–'
  return digits === 0 ? formatCount(value) : value.toFixed(digits)
}

function clip(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`
}

function formatClock(ms: number): string {
  const seconds = Math.floor(ms / 1_000)
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
}
