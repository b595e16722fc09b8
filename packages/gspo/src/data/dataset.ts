/**
 * JSONL data sets: one object a line with a `prompt` (text, or chat messages) and usually an `answer`. Reads whole
 * files, checks every line, and names file and line in every complaint; it never guesses at a missing field.
 */
import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { GspoError } from '../errors.ts'

/** A chat message as chat templates expect it. */
export interface ChatMessage {
  readonly role: string
  readonly content: string
}

/** One row: a prompt, what a correct answer is, and every other column for reward functions. */
export interface DataRow {
  readonly prompt: string | readonly ChatMessage[]
  /** The `answer` column as text; numbers are written in decimal. Absent where the row has none. */
  readonly answer: string | undefined
  /** The whole row as read. */
  readonly columns: Readonly<Record<string, unknown>>
}

/** The rows of one or several files, in order, and a hash over their bytes. */
export interface Dataset {
  readonly rows: readonly DataRow[]
  /** SHA-256 (hex) over the files' bytes in order: what a trace names. */
  readonly sha256: string
}

/** Reads JSONL files one after another. Throws GspoError FILE_MISSING, BAD_DATASET (file, line, what to do). */
export async function loadDataset(paths: readonly string[]): Promise<Dataset> {
  const hash = createHash('sha256')
  const rows: DataRow[] = []
  for (const path of paths) {
    const bytes = await readDatasetFile(path)
    hash.update(bytes)
    const before = rows.length
    // One by one: a call with as many arguments as a large data set has rows overflows the stack.
    for (const row of parseDataset(bytes, path)) rows.push(row)
    if (rows.length === before)
      throw new GspoError(
        'BAD_DATASET',
        `${path} holds no rows: write one JSON object a line, such as {"prompt": "2+2=", "answer": "4"}`,
      )
  }
  return { rows, sha256: hash.digest('hex') }
}

async function readDatasetFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new GspoError(
      'FILE_MISSING',
      `cannot read the data set ${path} (${reason}): check \`dataset\` in the config`,
      { cause },
    )
  }
}

/** The rows in the bytes of a JSONL file; blank lines are passed over. `path` is for messages only. */
export function parseDataset(bytes: Buffer, path: string): DataRow[] {
  const isText = isUtf8(bytes)
  return Array.from(linesOf(bytes), ({ start, end, line, number }) => {
    const where = `${path}, line ${number}`
    if (!isText && !isUtf8(bytes.subarray(start, end)))
      throw new GspoError(
        'BAD_DATASET',
        `${where}: is no UTF-8 text; save the file as UTF-8 (iconv -f LATIN1 -t UTF-8, if that is what it is)`,
      )
    return parseRow(line, where)
  })
}

const NEWLINE = 0x0a
/** What some editors put at the start of a file. */
const BYTE_ORDER_MARK = Buffer.of(0xef, 0xbb, 0xbf)

/**
 * The lines of a file that are not blank, numbered from 1; a byte-order mark is no part of the first. The file is never
 * one text, which could not be longer than 512 MB.
 */
function* linesOf(bytes: Buffer): Generator<{ start: number; end: number; line: string; number: number }> {
  const hasMark = bytes.subarray(0, 3).equals(BYTE_ORDER_MARK)
  for (let start = hasMark ? 3 : 0, number = 1; start < bytes.length; number++) {
    const found = bytes.indexOf(NEWLINE, start)
    const end = found < 0 ? bytes.length : found
    const line = bytes.toString('utf8', start, end)
    if (line.trim() !== '') yield { start, end, line, number }
    start = end + 1
  }
}

function parseRow(line: string, where: string): DataRow {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new GspoError(
      'BAD_DATASET',
      `${where}: not valid JSON (${reason}); a JSONL file has one complete JSON object a line`,
      { cause },
    )
  }
  if (!isRecord(value))
    throw new GspoError(
      'BAD_DATASET',
      `${where}: is ${describe(value)}, expected a JSON object with a "prompt"`,
    )
  if (!('prompt' in value)) {
    const keys = Object.keys(value).join(', ') || 'none'
    throw new GspoError(
      'BAD_DATASET',
      `${where}: has no "prompt" (keys: ${keys}); add a "prompt" text or list of chat messages, or remove the line`,
    )
  }
  return {
    prompt: parsePrompt(value['prompt'], where),
    answer: parseAnswer(value['answer'], where),
    columns: value,
  }
}

function parsePrompt(prompt: unknown, where: string): string | ChatMessage[] {
  if (typeof prompt === 'string') {
    if (prompt === '')
      throw new GspoError(
        'BAD_DATASET',
        `${where}: "prompt" is empty; write the text to complete, or remove the line`,
      )
    return prompt
  }
  if (!Array.isArray(prompt) || prompt.length === 0)
    throw new GspoError(
      'BAD_DATASET',
      `${where}: "prompt" is ${describe(prompt)}, expected text or a non-empty list of {"role", "content"} messages`,
    )
  return prompt.map((message: unknown, index) => {
    if (!isRecord(message) || typeof message['role'] !== 'string' || typeof message['content'] !== 'string')
      throw new GspoError(
        'BAD_DATASET',
        `${where}: message ${index + 1} of "prompt" needs "role" and "content" as text`,
      )
    return { ...message, role: message['role'], content: message['content'] }
  })
}

function parseAnswer(answer: unknown, where: string): string | undefined {
  if (answer === undefined || answer === null) return undefined
  if (typeof answer === 'string') return answer
  if (typeof answer === 'number' || typeof answer === 'boolean') return String(answer)
  throw new GspoError('BAD_DATASET', `${where}: "answer" is ${describe(answer)}, expected text or a number`)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function describe(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
