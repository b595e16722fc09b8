/**
 * A Hugging Face tokenizer from a model folder (`tokenizer.json`, `tokenizer_config.json`, chat template), by
 * @huggingface/tokenizers. Text becomes ids and back; prompts are never padded or truncated here.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as tokenizers from '@huggingface/tokenizers'
import type { ChatMessage } from '../data/dataset.ts'
import { GspoError } from '../errors.ts'
import { createChatTemplate } from './chat-template.ts'
import type { ChatTemplate } from './chat-template.ts'

/** Text to token ids and back, for one model. */
export interface Tokenizer {
  /** Ids of a text, with the special tokens the tokenizer itself adds (none for most chat models, Llama's BOS). */
  encode(text: string): Int32Array
  /** Ids of a text that follows a prompt: without special tokens. */
  encodeContinuation(text: string): Int32Array
  /** Ids of a data set's prompt: a text as it is, messages through the model's chat template. Throws BAD_TOKENIZER. */
  encodePrompt(prompt: string | readonly ChatMessage[]): Int32Array
  /** The text of ids; special tokens are left out unless `keepSpecial`. */
  decode(ids: ArrayLike<number>, options?: { keepSpecial?: boolean }): string
}

/** The part of the library's class used here: its own declarations import without extensions, which Node's rules refuse. */
interface LibraryTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] }
  decode(
    ids: number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean },
  ): string
}

const { Tokenizer: LibraryTokenizer } = tokenizers as unknown as {
  Tokenizer: new (definition: object, config: object) => LibraryTokenizer
}

/**
 * Loads the tokenizer of a model folder; the chat template gets `templateVariables` too.
 * Throws GspoError FILE_MISSING or BAD_TOKENIZER.
 */
export async function loadTokenizer(
  modelDir: string,
  templateVariables: Readonly<Record<string, unknown>> = {},
): Promise<Tokenizer> {
  const path = join(modelDir, 'tokenizer.json')
  const definition = parseObject(await readRequired(path), path)
  const configPath = join(modelDir, 'tokenizer_config.json')
  const configText = await readOptional(configPath)
  const config = configText === undefined ? {} : parseObject(configText, configPath)
  if (typeof definition['model'] !== 'object' || definition['model'] === null)
    throw new GspoError(
      'BAD_TOKENIZER',
      `${path} has no "model" object: it is not a Hugging Face tokenizer.json`,
    )
  let tokenizer: LibraryTokenizer
  try {
    tokenizer = new LibraryTokenizer(definition, config)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new GspoError(
      'BAD_TOKENIZER',
      `${path} cannot be used: ${reason}; re-download it, or save it again with transformers`,
      { cause },
    )
  }
  const template = createChatTemplate(
    config,
    await readOptional(join(modelDir, 'chat_template.jinja')),
    modelDir,
    templateVariables,
  )
  return wrap(tokenizer, template)
}

function wrap(tokenizer: LibraryTokenizer, template: ChatTemplate): Tokenizer {
  const encodeText = (text: string, addSpecial: boolean): Int32Array =>
    text === ''
      ? new Int32Array(0)
      : Int32Array.from(tokenizer.encode(text, { add_special_tokens: addSpecial }).ids)
  return {
    encode: (text) => encodeText(text, true),
    encodeContinuation: (text) => encodeText(text, false),
    // A chat template writes its own special tokens, so none may be added again.
    encodePrompt: (prompt) =>
      typeof prompt === 'string' ? encodeText(prompt, true) : encodeText(template.render(prompt), false),
    decode(ids, options = {}) {
      if (ids.length === 0) return ''
      return tokenizer.decode(Array.from(ids), {
        skip_special_tokens: options.keepSpecial !== true,
        // Else "a , b" would come out as "a, b". transformers 5 ignores this setting of a tokenizer for all BPE models.
        clean_up_tokenization_spaces: false,
      })
    },
  }
}

async function readRequired(path: string): Promise<string> {
  const text = await readOptional(path)
  if (text === undefined)
    throw new GspoError(
      'FILE_MISSING',
      `${path} is missing: \`model\` must name a Hugging Face folder with a tokenizer.json`,
    )
  return text
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
      return undefined
    const reason = error instanceof Error ? error.message : String(error)
    throw new GspoError('FILE_MISSING', `cannot read ${path} (${reason})`, { cause: error })
  }
}

function parseObject(text: string, path: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new GspoError(
      'BAD_TOKENIZER',
      `${path} is not valid JSON (${reason}): the file is damaged, download it again`,
      { cause },
    )
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new GspoError('BAD_TOKENIZER', `${path} is not a JSON object`)
  return value as Record<string, unknown>
}
