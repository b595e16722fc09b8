/** One frame of the live view: the run as lines that fit a width. Pure; colours by node:util, NO_COLOR obeyed. */
import { styleText } from 'node:util'
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatLoss,
  formatPercent,
  shortPeer,
} from '../cli/format.ts'
import { axisBounds, drawBar, drawCurve } from './curve.ts'
import {
  bytesSent,
  rewardCurve,
  verdictCounts,
  verdictText,
  type NodeModel,
  type RunModel,
} from './run-model.ts'
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
/** Columns from which the table has its bar, its loss and speed, and its peer ids. */
const WITH_BAR = 72
const WITH_SPEED = 58
const WITH_PEER = 84
const STATE_WIDTH = 18
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
    ...auditLines(run, width, paint),
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

/** Accuracy in words: sampled 35.5 %, greedy 63.8 % of 1,000 held-out prompts. */
export function accuracyText(accuracy: Accuracy): string {
  return `sampled ${formatPercent(accuracy.sampled.accuracy)}, greedy ${formatPercent(accuracy.greedy.accuracy)} of ${formatCount(accuracy.greedy.samples)} held-out prompts`
}

function nodeTable(run: RunModel, width: number, paint: Paint): string[] {
  const columns = { bar: width >= WITH_BAR, speed: width >= WITH_SPEED, peer: width >= WITH_PEER }
  const head = [
    ' node  ',
    'state'.padEnd(STATE_WIDTH),
    'step'.padStart(5),
    `  ${'reward'.padEnd(7 + (columns.bar ? BAR_WIDTH : 0))}`,
    ...(columns.speed ? ['loss'.padStart(10), 'tok/s'.padStart(8)] : []),
    ...(columns.peer ? ['  peer'] : []),
  ]
  return [paint('dim', head.join('')), ...run.nodes.map((node) => nodeLine(node, columns, width, paint))]
}

function nodeLine(
  node: NodeModel,
  columns: { bar: boolean; speed: boolean; peer: boolean },
  width: number,
  paint: Paint,
): string {
  const [mark, style] = markOf(node)
  const start = ` ${paint(style, mark)} ${String(node.index + 1).padEnd(4)}`
  if (node.state === 'gone' && node.ending !== null)
    return `${start}${paint(style, clip(node.ending, width - 7))}`
  const state = node.state === 'gone' ? 'done' : node.state.replaceAll('_', ' ')
  const cells = [
    state.padEnd(STATE_WIDTH),
    String(node.step).padStart(5),
    `  ${(node.reward === null ? '–' : node.reward.toFixed(3)).padEnd(7)}`,
    ...(columns.bar ? [paint(style, drawBar(node.reward ?? 0, BAR_WIDTH))] : []),
    ...(columns.speed
      ? [
          formatLoss(node.loss).padStart(10),
          (node.tokensPerSecond === null ? '–' : formatCount(node.tokensPerSecond)).padStart(8),
        ]
      : []),
    ...(columns.peer && node.peerId !== null ? [paint('dim', `  ${shortPeer(node.peerId)}`)] : []),
  ]
  return start + cells.join('')
}

function markOf(node: NodeModel): [string, Style] {
  switch (node.state) {
    case 'training':
    case 'validating':
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
  const room = width - LABEL_WIDTH - view.length - progress.length - 5
  const bar = room < 4 ? '' : paint('cyan', `▕${drawBar(round / run.roundLimit, Math.min(30, room))}▏`)
  const lines = [` ${paint('bold', 'ring')}   ${view}   ${progress}${bar}`]
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

/** What the validator has found so far, and its last verdict. */
function auditLines(run: RunModel, width: number, paint: Paint): string[] {
  if (run.validator === null) return []
  const { accepted, rejected, unavailable } = verdictCounts(run.validator)
  const last = run.validator.verdicts.at(-1)
  const facts = [
    `${accepted} accepted`,
    `${rejected} rejected`,
    ...(unavailable === 0 ? [] : [`${unavailable} unavailable`]),
    ...(last === undefined ? ['no verdict yet'] : [verdictText(run, last)]),
  ]
  const text = run.validator.ending ?? facts.join(' · ')
  const isBad = rejected > 0 || run.validator.ending !== null
  return [` ${paint('bold', 'audit')}  ${paint(isBad ? 'red' : 'dim', clip(text, width - LABEL_WIDTH))}`]
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
      paint(
        'dim',
        clip(`        mean reward of a round: ${first.toFixed(3)} at first, ${newest.toFixed(3)} now`, width),
      ),
    )
  return lines
}

function clip(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`
}

function formatClock(ms: number): string {
  const seconds = Math.floor(ms / 1_000)
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
}
