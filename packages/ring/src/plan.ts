/**
 * Who sends which elements when: the ring all-reduce as pure arithmetic (Patarasuk & Yuan 2009).
 * N-1 moves of scatter-reduce, then N-1 moves of all-gather; no I/O and no vector in here.
 */
import type { WireType } from './types.ts'

/** A run of elements: `start` inclusive, `end` exclusive. */
export interface Span {
  readonly start: number
  readonly end: number
}

/** One chunk that travels a link. `move` counts 0..2(N-1)-1 over both phases. */
export interface Step {
  readonly move: number
  readonly chunk: number
  readonly segment: number
  readonly span: Span
  /** true in the scatter-reduce phase: the receiver adds; false in the all-gather: the receiver stores */
  readonly reduce: boolean
  /** true for the last reduce of a segment: the receiver finishes it (divides) and owns it */
  readonly finish: boolean
}

/** How many times the values of an `f32` chunk a chunk of a shorter wire type may have: it is then no more bytes. */
const LONGEST = { f32: 1, bf16: 2, int8: 2 } as const

/** A segment of fewer long chunks than this has short ones: what is on its way must overlap with what is worked on. */
const MIN_LONG_CHUNKS = 4

/** Values in the longest chunks that a ring may use, for frames of up to `chunkBytes`. */
export function maxChunkElements(wire: WireType, chunkBytes: number): number {
  return Math.max(1, Math.floor(chunkBytes / 4)) * LONGEST[wire]
}

/** Values in a chunk of a vector of `length` among `count`: every frame has its price, so longer where that is no harm. */
export function chunkElements(wire: WireType, chunkBytes: number, length: number, count: number): number {
  const long = maxChunkElements(wire, chunkBytes)
  return length / count >= MIN_LONG_CHUNKS * long ? long : long / LONGEST[wire]
}

/** Segment `index` of `count` over `length` elements; sizes differ by at most one, and may be zero. */
export function segmentSpan(length: number, count: number, index: number): Span {
  return { start: Math.floor((length * index) / count), end: Math.floor((length * (index + 1)) / count) }
}

/** Cuts a span into chunks of at most `chunkElements`; none for an empty span. */
export function chunkSpans(span: Span, chunkElements: number): Span[] {
  const chunks: Span[] = []
  for (let start = span.start; start < span.end; start += chunkElements) {
    chunks.push({ start, end: Math.min(span.end, start + chunkElements) })
  }
  return chunks
}

/** The position that finishes `segment`, and so sends it first in the all-gather: segment (i+1) mod N is node i's. */
export function segmentOwner(segment: number, count: number): number {
  return (segment - 1 + count) % count
}

/** The segment that the node at `position` sends in `move`. */
export function segmentSent(position: number, count: number, move: number): number {
  const inPhase = move < count - 1 ? move : move - (count - 1)
  const first = move < count - 1 ? position : position + 1
  return mod(first - inPhase, count)
}

/** Everything the node at `position` sends, in order. Its predecessor's list is what it receives, in order. */
export function sendSteps(length: number, count: number, position: number, chunkElements: number): Step[] {
  const steps: Step[] = []
  for (let move = 0; move < 2 * (count - 1); move++) {
    const segment = segmentSent(position, count, move)
    const reduce = move < count - 1
    chunkSpans(segmentSpan(length, count, segment), chunkElements).forEach((span, chunk) => {
      steps.push({ move, chunk, segment, span, reduce, finish: move === count - 2 })
    })
  }
  return steps
}

/** Everything the node at `position` receives, in order. */
export function receiveSteps(length: number, count: number, position: number, chunkElements: number): Step[] {
  return sendSteps(length, count, mod(position - 1, count), chunkElements)
}

function mod(value: number, count: number): number {
  return ((value % count) + count) % count
}
