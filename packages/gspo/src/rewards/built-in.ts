/** The built-in reward functions of one sample. Pure and deterministic; none knows about groups or weights. */
import { Ajv2020 } from 'ajv/dist/2020.js'
import { GspoError } from '../errors.ts'
import type { RewardSample, Score } from './types.ts'

/** A pure score of one sample. */
export type Scorer = (sample: RewardSample) => Score

/** 1 when the completion equals the answer, both trimmed of white space; null without an answer. */
export function exactMatch(sample: RewardSample): Score {
  if (sample.answer === undefined) return null
  return sample.completion.trim() === sample.answer.trim() ? 1 : 0
}

/** A decimal number with optional sign, thousands separators, fraction and exponent. */
const NUMBER = /[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+]?\.\d+/g

/** A fraction as LaTeX writes it, of two plain numbers. */
const FRACTION = /^([-+]?)\s*\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}$/

/**
 * The number a text ends on: what follows the last `####` (GSM8K's mark) or stands in the last `\boxed{}` where there
 * is one, else the last number in it. Undefined when there is none, and for a box that is cut off.
 */
export function finalNumber(text: string): number | undefined {
  const marked = text.lastIndexOf('####')
  if (marked >= 0) return firstNumber(text.slice(marked + 4))
  const boxed = text.lastIndexOf('\\boxed{')
  if (boxed < 0) return numberOf(text.match(NUMBER)?.at(-1))
  const content = braced(text, boxed + 7)
  if (content === undefined) return undefined
  const [, sign, above, below] = FRACTION.exec(content.trim()) ?? []
  if (above === undefined || below === undefined) return firstNumber(content)
  const [numerator, denominator] = [firstNumber(above), firstNumber(below)]
  if (numerator === undefined || denominator === undefined) return undefined
  return ((sign === '-' ? -1 : 1) * numerator) / denominator
}

/** After a mark the first number is the answer; in running text it is the last one. */
function firstNumber(text: string): number | undefined {
  // LaTeX writes 1{,}234 and 1\,234 for a thousands separator.
  return numberOf(text.replace(/(\d)(?:\{,\}|\\[,!])(?=\d{3})/g, '$1,').match(NUMBER)?.[0])
}

function numberOf(found: string | undefined): number | undefined {
  return found === undefined ? undefined : Number(found.replaceAll(',', ''))
}

/** The text from `start` to the brace that closes it; undefined when none does. */
function braced(text: string, start: number): string | undefined {
  let open = 1
  for (let at = start; at < text.length; at++) {
    if (text[at] === '{') open++
    else if (text[at] === '}' && --open === 0) return text.slice(start, at)
  }
  return undefined
}

/** A scorer that is 1 when completion and answer end on the same number, within `tolerance` (absolute). */
export function numericMatch(tolerance: number): Scorer {
  return (sample) => {
    const expected = sample.answer === undefined ? undefined : finalNumber(sample.answer)
    if (expected === undefined) return null
    const found = finalNumber(sample.completion)
    return found !== undefined && Math.abs(found - expected) <= tolerance ? 1 : 0
  }
}

/**
 * A scorer that is 1 when the pattern is found in the completion; with `matchAnswer` its first group (or the whole
 * match) must also equal the answer. Throws BAD_CONFIG on a bad pattern.
 */
export function regexMatch(pattern: string, flags: string, matchAnswer: boolean): Scorer {
  let expression: RegExp
  try {
    expression = new RegExp(pattern, flags.replace(/[gy]/g, ''))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new GspoError('BAD_CONFIG', `reward regex: ${reason}; JavaScript's syntax is expected`, { cause })
  }
  return (sample) => {
    const found = expression.exec(sample.completion)
    if (!matchAnswer) return found === null ? 0 : 1
    if (sample.answer === undefined) return null
    return (found?.[1] ?? found?.[0])?.trim() === sample.answer.trim() ? 1 : 0
  }
}

/** A scorer that is 1 when the completion is valid JSON, and by the schema where one is given (JSON Schema 2020-12). */
export function jsonValid(schema: Record<string, unknown> | undefined): Scorer {
  const validate = schema === undefined ? undefined : compileSchema(schema)
  return (sample) => {
    let value: unknown
    try {
      value = JSON.parse(sample.completion)
    } catch {
      return 0 // not being JSON is what this reward measures
    }
    return validate === undefined || validate(value) ? 1 : 0
  }
}

function compileSchema(schema: Record<string, unknown>): (value: unknown) => boolean {
  try {
    const validate = new Ajv2020({ strict: false }).compile(schema)
    return (value) => validate(value)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new GspoError('BAD_CONFIG', `reward json: the schema is not a valid JSON Schema: ${reason}`, {
      cause,
    })
  }
}

/**
 * Length shaping (DAPO, arXiv 2503.14476, equation 13): 0 up to maxTokens - softTokens, falling to -1 at maxTokens and
 * -1 beyond.
 */
export function lengthPenalty(maxTokens: number, softTokens: number): Scorer {
  return ({ tokens }) => {
    const free = maxTokens - softTokens
    if (tokens <= free) return 0
    return tokens > maxTokens ? -1 : (free - tokens) / softTokens
  }
}
