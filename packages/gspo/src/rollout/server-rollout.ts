/**
 * Rollouts by an OpenAI-compatible server (vLLM, SGLang) that loads LoRA adapters at run time: the adapter is written
 * and loaded, each prompt is one request for a group, every request has a deadline and a retry limit. What comes back
 * is checked; logprobs are computed by the caller, for the server's are of other kernels and before the temperature.
 */
import { resolve } from 'node:path'
import { z } from 'zod'
import type { ResolvedConfig } from '../config.ts'
import { GspoError } from '../errors.ts'
import { postText } from '../http/post-json.ts'
import type { ModelSummary } from '../policy-types.ts'
import { STREAM, uniform } from '../sampling/philox.ts'
import type { FinishReason, RolloutPrompt } from './rollout.ts'

/** How the server is reached. */
export type RolloutServer = NonNullable<ResolvedConfig['rollout_server']>

/** A completion as the server gave it. */
export interface ServedCompletion {
  readonly tokens: Int32Array
  readonly finish: FinishReason
}

const responseSchema = z.object({
  choices: z.array(
    z.object({
      index: z.int().nonnegative().default(0),
      finish_reason: z.string().nullish(),
      token_ids: z.array(z.int().nonnegative()).nullish(),
      logprobs: z.object({ tokens: z.array(z.string()) }).nullish(),
    }),
  ),
})

/** Loads the adapter in `adapterDir` under the configured name, in place of an older one. Throws ROLLOUT_FAILED. */
export async function pushAdapter(server: RolloutServer, signal: AbortSignal): Promise<void> {
  const request = { lora_name: server.adapter_name }
  try {
    await post(server, server.unload_path, request, signal, 0)
  } catch {
    signal.throwIfAborted()
    // There is nothing to unload on the first step; a server that is down fails the load below, with its reason.
  }
  // The server has another working directory.
  const path = resolve(server.adapter_dir)
  await post(server, server.load_path, { ...request, lora_path: path }, signal, server.retries)
}

/** Completions of every prompt, group_size each, in order. Throws ROLLOUT_FAILED, or the signal's reason. */
export async function serverRollout(
  server: RolloutServer,
  prompts: readonly RolloutPrompt[],
  config: ResolvedConfig,
  model: Pick<ModelSummary, 'vocabSize' | 'eosTokenIds'>,
  signal: AbortSignal,
): Promise<ServedCompletion[][]> {
  const groups: ServedCompletion[][] = prompts.map(() => [])
  const waiting = [...prompts.entries()]
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [index, prompt] = next
      const answer = await post(
        server,
        'completions',
        requestOf(server, prompt, config),
        signal,
        server.retries,
      )
      groups[index] = parseGroup(parseJson(answer), prompt, config, model)
    }
  }
  try {
    await Promise.all(Array.from({ length: Math.min(server.concurrency, prompts.length) }, work))
  } finally {
    waiting.length = 0 // one failed request ends the step: the other workers must not go on
  }
  return groups
}

function requestOf(server: RolloutServer, prompt: RolloutPrompt, config: ResolvedConfig): object {
  return {
    model: server.adapter_name,
    prompt: [...prompt.ids],
    n: config.group_size,
    max_tokens: config.max_completion_length,
    temperature: config.temperature,
    // All said, for a server takes what is left out from the model's generation_config.json: Qwen's has top_k 20.
    top_p: config.top_p,
    top_k: config.top_k > 0 ? config.top_k : -1,
    min_p: config.min_p,
    repetition_penalty: 1,
    presence_penalty: 0,
    frequency_penalty: 0,
    ...(config.stop.length > 0 ? { stop: config.stop, include_stop_str_in_output: true } : {}),
    seed: Math.floor(uniform(config.seed, STREAM.sample, prompt.position, 0, 0) * 2 ** 31),
    logprobs: 0,
    return_token_ids: true,
    return_tokens_as_token_ids: true,
    skip_special_tokens: false,
  }
}

function parseGroup(
  answer: unknown,
  prompt: RolloutPrompt,
  config: ResolvedConfig,
  model: Pick<ModelSummary, 'vocabSize' | 'eosTokenIds'>,
): ServedCompletion[] {
  const where = `rollout server, data position ${prompt.position}`
  const parsed = responseSchema.safeParse(answer)
  if (!parsed.success)
    throw new GspoError('ROLLOUT_FAILED', `${where}: unexpected answer:\n${z.prettifyError(parsed.error)}`)
  const { choices } = parsed.data
  if (choices.length !== config.group_size)
    throw new GspoError(
      'ROLLOUT_FAILED',
      `${where}: ${choices.length} completions, expected ${config.group_size}`,
    )
  return choices
    .toSorted((a, b) => a.index - b.index)
    .map((choice) => {
      const ids = choice.token_ids ?? tokensAsIds(choice.logprobs?.tokens)
      if (ids === undefined)
        throw new GspoError(
          'ROLLOUT_FAILED',
          `${where}: the answer has no token ids: the server must support return_token_ids or return_tokens_as_token_ids (vLLM does)`,
        )
      return completionOf(ids, choice.finish_reason ?? 'stop', config, model, where)
    })
}

function completionOf(
  ids: readonly number[],
  reason: string,
  config: ResolvedConfig,
  model: Pick<ModelSummary, 'vocabSize' | 'eosTokenIds'>,
  where: string,
): ServedCompletion {
  const isEnd = (token: number | undefined): boolean =>
    token !== undefined && model.eosTokenIds.includes(token)
  const end = ids.findIndex(isEnd)
  const tokens = end >= 0 ? ids.slice(0, end + 1) : [...ids]
  const ended = reason === 'stop' && end < 0 && config.stop.length === 0
  // Some servers leave the end token out of their answer; the policy has to learn it.
  const [endToken] = model.eosTokenIds
  if (ended && endToken !== undefined && tokens.length < config.max_completion_length) tokens.push(endToken)
  const wrong = tokens.find((token) => token >= model.vocabSize)
  if (wrong !== undefined)
    throw new GspoError(
      'ROLLOUT_FAILED',
      `${where}: token ${wrong}, the vocabulary has ${model.vocabSize}: the server has another model`,
    )
  if (tokens.length === 0 || tokens.length > config.max_completion_length)
    throw new GspoError(
      'ROLLOUT_FAILED',
      `${where}: ${tokens.length} tokens, expected 1 to ${config.max_completion_length}`,
    )
  const finish = isEnd(tokens.at(-1))
    ? 'eos'
    : reason === 'stop' && config.stop.length > 0
      ? 'stop'
      : 'length'
  return { tokens: Int32Array.from(tokens), finish }
}

/** vLLM's return_tokens_as_token_ids writes each token as "token_id:123". */
function tokensAsIds(tokens: readonly string[] | undefined): number[] | undefined {
  const ids = tokens?.map((token) => (token.startsWith('token_id:') ? Number(token.slice(9)) : NaN))
  return ids?.every((id) => Number.isSafeInteger(id) && id >= 0) === true ? ids : undefined
}

async function post(
  server: RolloutServer,
  path: string,
  body: object,
  signal: AbortSignal,
  retries: number,
): Promise<string> {
  const base = server.url.endsWith('/') ? server.url : `${server.url}/`
  const headers: Record<string, string> =
    server.api_key === undefined ? {} : { authorization: `Bearer ${server.api_key}` }
  try {
    return await postText(new URL(path, base).href, body, {
      headers,
      timeoutMs: server.timeout_ms,
      retries,
      signal,
    })
  } catch (cause) {
    signal.throwIfAborted()
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new GspoError('ROLLOUT_FAILED', `rollout server ${reason}`, { cause })
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new GspoError('ROLLOUT_FAILED', `rollout server: the answer is not JSON: ${text.slice(0, 200)}`, {
      cause,
    })
  }
}
