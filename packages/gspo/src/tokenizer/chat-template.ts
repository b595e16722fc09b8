/**
 * Chat messages to prompt text through the model's own Jinja chat template (`tokenizer_config.json` or
 * `chat_template.jinja`), with the variables that transformers' apply_chat_template gives it.
 */
import { Template } from '@huggingface/jinja'
import type { ChatMessage } from '../data/dataset.ts'
import { GspoError } from '../errors.ts'

/** Renders messages to the text before the assistant's answer. */
export interface ChatTemplate {
  /** Throws GspoError BAD_TOKENIZER when the model has no template or the template refuses the messages. */
  render(messages: readonly ChatMessage[]): string
}

/** Special tokens that templates see by name, as transformers' special_tokens_map. */
const SPECIAL_TOKENS = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
]

/**
 * The template of a model.
 * @param config   the parsed tokenizer_config.json
 * @param separate the text of chat_template.jinja, which wins where both exist (transformers' order)
 * @param modelDir for messages only
 * @param variables more variables for the template, such as enable_thinking; they win over all but the messages
 */
export function createChatTemplate(
  config: Readonly<Record<string, unknown>>,
  separate: string | undefined,
  modelDir: string,
  variables: Readonly<Record<string, unknown>> = {},
): ChatTemplate {
  const source = separate ?? templateSource(config['chat_template'])
  let compiled: Template | undefined
  return {
    render(messages) {
      if (source === undefined)
        throw new GspoError(
          'BAD_TOKENIZER',
          `the data set has chat messages but the model in ${modelDir} has no chat template: give prompts as text, or add chat_template.jinja to the folder`,
        )
      try {
        compiled ??= new Template(source)
        return compiled.render({
          // As transformers: templates tell absent tools (null) from undefined ones.
          tools: null,
          documents: null,
          add_generation_prompt: true,
          ...Object.fromEntries(SPECIAL_TOKENS.map((name) => [name, tokenText(config[name])])),
          ...variables,
          messages,
        })
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause)
        throw new GspoError('BAD_TOKENIZER', `the chat template of ${modelDir} failed: ${reason}`, { cause })
      }
    },
  }
}

/** A template is a text, or a list of named ones of which `default` is meant. */
function templateSource(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) return undefined
  for (const entry of value as unknown[]) {
    if (
      typeof entry === 'object' &&
      entry !== null &&
      'name' in entry &&
      entry.name === 'default' &&
      'template' in entry
    )
      return typeof entry.template === 'string' ? entry.template : undefined
  }
  return undefined
}

/** Special tokens are written as text or as an object with `content`. */
function tokenText(value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value === 'object' && value !== null && 'content' in value && typeof value.content === 'string')
    return value.content
  return ''
}
