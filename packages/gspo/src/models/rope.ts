/** Rotary position embedding (arXiv 2104.09864) and its scalings: frequencies, and tables of cosines and sines. */
import type { Feed } from '../engine/engine.ts'
import type { ModelConfig, RopeConfig } from './model-config.ts'

/** Inverse frequencies of the rotated pairs, and the factor on cosine and sine. */
export interface RopeFrequencies {
  readonly inverse: readonly number[]
  readonly attentionFactor: number
}

/** Frequencies for heads of `headSize` numbers: default, linear, llama3 or yarn (arXiv 2309.00071). */
export function ropeFrequencies(rope: RopeConfig, headSize: number): RopeFrequencies {
  const rotated = Math.floor(headSize * rope.partialFactor)
  const plain = Array.from({ length: rotated / 2 }, (_, pair) => rope.theta ** (-(2 * pair) / rotated))
  switch (rope.type) {
    case 'default':
      return { inverse: plain, attentionFactor: 1 }
    case 'linear':
      return { inverse: plain.map((frequency) => frequency / rope.factor), attentionFactor: 1 }
    case 'llama3':
      return { inverse: plain.map((frequency) => llama3(frequency, rope)), attentionFactor: 1 }
    case 'yarn':
      return yarn(plain, rope, rotated)
  }
}

/** Cosines and sines of positions 0 to `positions` - 1, each [positions, pairs]. */
export function ropeTables(
  { inverse, attentionFactor }: RopeFrequencies,
  positions: number,
): { cos: Float32Array; sin: Float32Array } {
  const pairs = inverse.length
  const cos = new Float32Array(positions * pairs)
  const sin = new Float32Array(positions * pairs)
  for (let position = 0; position < positions; position++)
    for (let pair = 0; pair < pairs; pair++) {
      // The reference multiplies position and frequency in float32.
      const angle = Math.fround(position * Math.fround(inverse[pair] ?? 0))
      cos[position * pairs + pair] = Math.cos(angle) * attentionFactor
      sin[position * pairs + pair] = Math.sin(angle) * attentionFactor
    }
  return { cos, sin }
}

/** Tables for at least so many positions, as inputs of a graph. */
export type RopeCache = (positions: number) => { cos: Feed; sin: Feed }

/** Positions that the first tables have, so that short texts never need larger ones. */
const FIRST_POSITIONS = 256

/** Keeps one pair of tables and makes larger ones when they are asked for. */
export function createRopeCache({ rope, headSize, maxPositions }: ModelConfig): RopeCache {
  const frequencies = ropeFrequencies(rope, headSize)
  let known: { positions: number; cos: Feed; sin: Feed } | undefined
  return (positions) => {
    if (known === undefined || known.positions < positions) {
      const size = Math.max(Math.min(Math.max(2 * positions, FIRST_POSITIONS), maxPositions), positions)
      const { cos, sin } = ropeTables(frequencies, size)
      const dims = [size, frequencies.inverse.length]
      known = { positions: size, cos: { dims, values: cos }, sin: { dims, values: sin } }
    }
    return { cos: known.cos, sin: known.sin }
  }
}

function llama3(frequency: number, rope: Extract<RopeConfig, { type: 'llama3' }>): number {
  const wavelength = (2 * Math.PI) / frequency
  if (wavelength < rope.originalPositions / rope.highFrequencyFactor) return frequency
  if (wavelength > rope.originalPositions / rope.lowFrequencyFactor) return frequency / rope.factor
  const smooth =
    (rope.originalPositions / wavelength - rope.lowFrequencyFactor) /
    (rope.highFrequencyFactor - rope.lowFrequencyFactor)
  return ((1 - smooth) * frequency) / rope.factor + smooth * frequency
}

function yarn(
  plain: readonly number[],
  rope: Extract<RopeConfig, { type: 'yarn' }>,
  rotated: number,
): RopeFrequencies {
  const dimensionOf = (rotations: number): number =>
    (rotated * Math.log(rope.originalPositions / (rotations * 2 * Math.PI))) / (2 * Math.log(rope.theta))
  const round = (value: number, direction: 'floor' | 'ceil'): number =>
    rope.truncate ? Math[direction](value) : value
  const low = Math.max(round(dimensionOf(rope.betaFast), 'floor'), 0)
  const high = Math.min(round(dimensionOf(rope.betaSlow), 'ceil'), rotated - 1)
  const width = high === low ? 0.001 : high - low
  const inverse = plain.map((frequency, pair) => {
    const interpolated = Math.min(Math.max((pair - low) / width, 0), 1)
    return (frequency / rope.factor) * interpolated + frequency * (1 - interpolated)
  })
  return { inverse, attentionFactor: rope.attentionFactor ?? yarnAttentionFactor(rope) }
}

function yarnAttentionFactor(rope: Extract<RopeConfig, { type: 'yarn' }>): number {
  const scale = (weight: number): number => (rope.factor <= 1 ? 1 : 0.1 * weight * Math.log(rope.factor) + 1)
  return rope.mscale !== null && rope.mscaleAllDim !== null
    ? scale(rope.mscale) / scale(rope.mscaleAllDim)
    : scale(1)
}
