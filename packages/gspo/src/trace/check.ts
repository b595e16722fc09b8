/** Whether a trace could have been written by a step of this configuration at all. Pure; for traces from strangers. */
import type { ResolvedConfig } from '../config.ts'
import { GspoError } from '../errors.ts'
import type { ModelSummary } from '../policy-types.ts'
import type { StepTrace, TracedCompletion, TracedGroup } from './types.ts'

/** Throws GspoError BAD_TRACE that says where the trace is impossible: sizes, token ids, logprobs, endings. */
export function checkTrace(
  trace: StepTrace,
  config: Pick<ResolvedConfig, 'prompts_per_step' | 'group_size' | 'max_completion_length' | 'stop'>,
  model: Pick<ModelSummary, 'vocabSize' | 'maxPositions' | 'eosTokenIds'>,
): void {
  const where = `trace of step ${trace.step}`
  expectEqual(trace.groups.length, config.prompts_per_step, `${where}: groups`)
  for (const [index, group] of trace.groups.entries()) {
    const groupWhere = `${where}, group ${index}`
    expectEqual(group.completions.length, config.group_size, `${groupWhere}: completions`)
    checkPrompt(group, config.max_completion_length, model, groupWhere)
    for (const [place, completion] of group.completions.entries())
      checkCompletion(completion, config, model, `${groupWhere}, completion ${place}`)
  }
}

function checkPrompt(
  group: TracedGroup,
  maxCompletion: number,
  model: Pick<ModelSummary, 'vocabSize' | 'maxPositions'>,
  where: string,
): void {
  const { length } = group.promptIds
  if (length === 0 || length + maxCompletion > model.maxPositions)
    throw bad(
      `${where}: the prompt has ${length} tokens, expected 1 to ${model.maxPositions - maxCompletion}`,
    )
  checkIds(group.promptIds, model.vocabSize, `${where}: prompt`)
}

function checkCompletion(
  { tokens, logps, finish }: TracedCompletion,
  config: Pick<ResolvedConfig, 'max_completion_length' | 'stop'>,
  model: Pick<ModelSummary, 'vocabSize' | 'eosTokenIds'>,
  where: string,
): void {
  if (tokens.length === 0 || tokens.length > config.max_completion_length)
    throw bad(`${where}: has ${tokens.length} tokens, expected 1 to ${config.max_completion_length}`)
  checkIds(tokens, model.vocabSize, where)
  expectEqual(logps.length, tokens.length, `${where}: logprobs`)
  const badLogp = logps.findIndex((logp) => !(logp <= 1e-3 && logp > -Infinity))
  if (badLogp >= 0)
    throw bad(`${where}: logprob ${badLogp} is ${logps[badLogp]}, expected a finite number of at most 0`)
  const end = tokens.findIndex((token) => model.eosTokenIds.includes(token))
  const last = tokens.length - 1
  if (end >= 0 && end < last) throw bad(`${where}: goes on after its end token at ${end}`)
  if ((finish === 'eos') !== (end === last))
    throw bad(`${where}: says it ended by ${finish}, its last token is ${tokens[last]}`)
  if (finish === 'length' && tokens.length !== config.max_completion_length)
    throw bad(`${where}: says it was cut, but has ${tokens.length} of ${config.max_completion_length} tokens`)
  if (finish === 'stop' && config.stop.length === 0)
    throw bad(`${where}: says it ended at a stop text, but none is configured`)
}

function checkIds(ids: Int32Array, vocabSize: number, where: string): void {
  const place = ids.findIndex((id) => id < 0 || id >= vocabSize)
  if (place >= 0) throw bad(`${where}: token ${place} is ${ids[place]}, the vocabulary has ${vocabSize}`)
}

function expectEqual(seen: number, expected: number, what: string): void {
  if (seen !== expected) throw bad(`${what}: ${seen}, expected ${expected}`)
}

function bad(message: string): GspoError {
  return new GspoError('BAD_TRACE', message)
}
