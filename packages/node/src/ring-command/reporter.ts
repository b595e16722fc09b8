/**
 * Three ways to follow a run: a live view on a terminal, plain lines elsewhere, JSON lines for programs. The
 * launcher tells a reporter what happens; a reporter only writes.
 */
import { createLogUpdate } from 'log-update'
import { formatBytes, formatCount, formatDuration, formatLoss } from '../cli/format.ts'
import { FRAME_MS } from '../defaults.ts'
import type { ParentMessage } from '../parent-link.ts'
import type { Accuracy } from './evaluation.ts'
import { accuracyText, renderFrame } from './frame.ts'
import { verdictText, type RunModel } from './run-model.ts'
import type { RingSummary } from './summary.ts'

/** What a reporter is told. */
export interface Reporter {
  /** One thing that happens outside the rounds, for people. */
  note(text: string): void
  evaluated(phase: 'before' | 'after', accuracy: Accuracy): void
  /** The daemons are being started; the view of `run` may be shown from now on. */
  begin(run: RunModel): void
  message(index: number, message: ParentMessage): void
  /** The same of the validator. */
  validatorMessage(message: ParentMessage): void
  ended(index: number, text: string): void
  /** The daemons have stopped. */
  finish(): void
  summary(summary: RingSummary, text: string): void
}

/** The reporter for this standard output. */
export function createReporter(asJson: boolean, title: string, stdout: NodeJS.WriteStream): Reporter {
  if (asJson) return new JsonReporter(stdout)
  return stdout.isTTY ? new LiveReporter(title, stdout) : new LineReporter(stdout)
}

class JsonReporter implements Reporter {
  readonly #out: NodeJS.WritableStream

  constructor(out: NodeJS.WritableStream) {
    this.#out = out
  }

  note(text: string): void {
    this.#write({ type: 'note', text })
  }
  evaluated(phase: 'before' | 'after', accuracy: Accuracy): void {
    this.#write({ type: 'evaluation', phase, ...accuracy })
  }
  begin(run: RunModel): void {
    this.#write({ type: 'begin', nodes: run.nodes.length, rounds: run.roundLimit })
  }
  message(index: number, message: ParentMessage): void {
    if (message.type === 'listening')
      this.#write({
        type: 'listening',
        node: index,
        peer_id: message.peerId,
        addresses: message.addresses,
        http: message.http,
      })
    else if (message.type === 'event') this.#write({ ...message.event, node: index })
    else this.#write({ ...message, node: index })
  }
  validatorMessage(message: ParentMessage): void {
    if (message.type === 'event') this.#write({ ...message.event, node: 'validator' })
    else this.#write({ ...message, node: 'validator' })
  }
  ended(index: number, text: string): void {
    this.#write({ type: 'ended', node: index, text })
  }
  finish(): void {
    this.#write({ type: 'finish' })
  }
  summary(summary: RingSummary): void {
    this.#write({ type: 'summary', ...summary })
  }
  #write(line: object): void {
    this.#out.write(`${JSON.stringify({ time: new Date().toISOString(), ...line })}\n`)
  }
}

class LineReporter implements Reporter {
  readonly #out: NodeJS.WritableStream
  #run: RunModel | null = null
  #roundShown = 0

  constructor(out: NodeJS.WritableStream) {
    this.#out = out
  }

  note(text: string): void {
    this.#line(text)
  }
  evaluated(phase: 'before' | 'after', accuracy: Accuracy): void {
    this.#line(`${phase.padEnd(7)} ${accuracyText(accuracy)}`)
  }
  begin(run: RunModel): void {
    this.#run = run
  }
  message(index: number, message: ParentMessage): void {
    if (message.type === 'listening')
      this.#line(`node ${index + 1}  ${message.peerId} listens on ${message.addresses[0] ?? 'nothing'}`)
    if (message.type !== 'event') return
    const { event } = message
    if (event.type === 'step') {
      const { step, rewardMean, loss, tokensPerSecond } = event.stats
      this.#line(
        `node ${index + 1}  step ${step}  reward ${rewardMean.toFixed(3)}  loss ${formatLoss(loss)}  ${formatCount(tokensPerSecond)} tokens/s`,
      )
    } else if (event.type === 'view') {
      // After the last round the nodes leave one by one, which is no news.
      if ((this.#run?.lastRound?.round ?? 0) >= (this.#run?.roundLimit ?? Infinity)) return
      this.#line(`node ${index + 1}  view ${event.epoch} with ${event.members.length} members`)
    } else if (event.type === 'error') {
      this.#line(`node ${index + 1}  ${event.code}: ${event.message}`)
    } else if (event.type === 'round' && event.round.round > this.#roundShown) {
      const { round, duration_ms, bytes_sent, contributors, adapter_sha3_256 } = event.round
      this.#roundShown = round
      this.#line(
        `ring    round ${round}/${this.#run?.roundLimit ?? '?'}  ${contributors.length} contributors  all-reduce ${formatDuration(duration_ms)}  ${formatBytes(bytes_sent)} sent by one node  adapter ${adapter_sha3_256.slice(0, 12)}`,
      )
    }
  }
  validatorMessage(message: ParentMessage): void {
    if (message.type === 'listening') this.#line(`audit   ${message.peerId} audits the nodes`)
    if (message.type === 'failed') this.#line(`audit   ${message.code}: ${message.message}`)
    if (message.type === 'event' && message.event.type === 'verdict' && this.#run !== null)
      this.#line(`audit   ${verdictText(this.#run, message.event.verdict)}`)
  }
  ended(index: number, text: string): void {
    this.#line(`node ${index + 1}  ${text}`)
  }
  finish(): void {
    this.#run = null
  }
  summary(_summary: RingSummary, text: string): void {
    this.#out.write(text)
  }
  #line(text: string): void {
    this.#out.write(`${text}\n`)
  }
}

class LiveReporter implements Reporter {
  readonly #out: NodeJS.WriteStream
  readonly #title: string
  readonly #startedAt = performance.now()
  readonly #update: ReturnType<typeof createLogUpdate>
  #before: Accuracy | null = null
  #run: RunModel | null = null
  #timer: NodeJS.Timeout | undefined
  readonly #notes: string[] = []

  constructor(title: string, out: NodeJS.WriteStream) {
    this.#title = title
    this.#out = out
    this.#update = createLogUpdate(out)
  }

  note(text: string): void {
    if (this.#run === null) this.#out.write(` ${text}\n`)
    else this.#notes.push(text)
  }
  evaluated(phase: 'before' | 'after', accuracy: Accuracy): void {
    if (phase === 'before') this.#before = accuracy
  }
  begin(run: RunModel): void {
    this.#run = run
    this.#timer = setInterval(() => this.#draw(), FRAME_MS)
    this.#draw()
  }
  message(): void {
    // The frame shows the run as it is at its next tick.
  }
  validatorMessage(): void {
    // As `message`.
  }
  ended(index: number, text: string): void {
    if (text !== 'done') this.#notes.push(`node ${index + 1} ${text}`)
  }
  finish(): void {
    clearInterval(this.#timer)
    this.#draw()
    this.#update.done()
    this.#run = null
  }
  summary(_summary: RingSummary, text: string): void {
    this.#out.write(text)
  }

  #draw(): void {
    if (this.#run === null) return
    const lines = renderFrame(this.#run, {
      title: this.#title,
      before: this.#before,
      elapsedMs: performance.now() - this.#startedAt,
      width: this.#out.columns,
      colour: this.#out.hasColors(),
    })
    const notes = this.#notes.slice(-3).map((note) => ` ${note}`)
    this.#update([...lines, ...notes].join('\n'))
  }
}
