/** Rollouts by an OpenAI-compatible server, against a local one that speaks vLLM's API. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import type { GSPOConfig } from '../src/config.ts'
import { createTrainer } from '../src/trainer.ts'
import type { Trainer } from '../src/trainer-types.ts'
import { ARITH } from './arith.ts'
import { startServer } from './local-server.ts'
import type { LocalServer, Received } from './local-server.ts'

/** Byte ids of "46" and "7", as the model's tokenizer has them, with and without its end token. */
const ANSWERS = [
  [52, 54, 258],
  [55, 258],
  [52, 54],
  [55, 55, 55, 55, 55, 55],
]
const REASONS = ['stop', 'stop', 'stop', 'length']

const choices = (ids: number[][]): object[] =>
  ids.map((token_ids, index) => ({ index, token_ids, finish_reason: REASONS[index], text: '' }))

describe('a rollout server', () => {
  let server: LocalServer
  let trainer: Trainer
  let dir = ''
  const completions = (): Received[] => server.requests.filter(({ path }) => path === '/v1/completions')
  const answer: LocalServer['handle'] = ({ path }, response) => {
    // vLLM answers adapter requests with plain text, and 404 when there is nothing to unload.
    if (path.endsWith('/unload_lora_adapter')) response.writeHead(404).end('not found')
    else if (path.endsWith('/load_lora_adapter')) response.end('Success: LoRA adapter added')
    else response.end(JSON.stringify({ choices: choices(ANSWERS) }))
  }
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'gspo-server-'))
    server = await startServer(answer)
    const config: GSPOConfig = {
      model: ARITH.model,
      dataset: ARITH.train,
      prompts_per_step: 2,
      group_size: 4,
      steps_per_generation: 2,
      max_completion_length: 6,
      threads: 1,
      rollout_server: {
        url: `${server.url}/v1`,
        api_key: 'secret',
        adapter_dir: join(dir, 'adapter'),
        retries: 1,
        timeout_ms: 2000,
      },
    }
    trainer = await createTrainer(config)
  })
  beforeEach(() => {
    server.requests.length = 0
    server.handle = answer
  })
  after(async () => {
    await trainer.close()
    server.close()
    await rm(dir, { recursive: true })
  })

  it('gets the adapter before every step and one request a prompt', async () => {
    const { trace } = await trainer.step()
    assert.deepEqual(
      server.requests.slice(0, 2).map(({ path, body }) => [path, body]),
      [
        ['/v1/unload_lora_adapter', { lora_name: 'gym' }],
        ['/v1/load_lora_adapter', { lora_name: 'gym', lora_path: join(dir, 'adapter') }],
      ],
    )
    assert.match(await readFile(join(dir, 'adapter', 'adapter_config.json'), 'utf8'), /"peft_type": "LORA"/)
    const [first] = completions()
    assert.equal(completions().length, 2)
    assert.equal(first?.headers.authorization, 'Bearer secret')
    assert.deepEqual(
      [first?.body['model'], first?.body['n'], first?.body['max_tokens'], first?.body['temperature']],
      ['gym', 4, 6, 1],
    )
    assert.deepEqual(first?.body['prompt'], [...(trace.groups[0]?.promptIds ?? [])])
  })

  it('says every sampling option, so that none comes from the generation_config.json of the server', async () => {
    await trainer.step()
    const { top_p, top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty } =
      completions()[0]?.body ?? {}
    // -1 is what vLLM and SGLang both take for all tokens.
    assert.deepEqual(
      { top_p, top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty },
      { top_p: 1, top_k: -1, min_p: 0, repetition_penalty: 1, presence_penalty: 0, frequency_penalty: 0 },
    )
  })

  it('puts its tokens into the trace, with the end token it left out, and logprobs of this engine', async () => {
    const { trace } = await trainer.step()
    const group = trace.groups[0]?.completions ?? []
    assert.deepEqual(
      group.map(({ tokens }) => [...tokens]),
      [
        [52, 54, 258],
        [55, 258],
        [52, 54, 258],
        [55, 55, 55, 55, 55, 55],
      ],
    )
    assert.deepEqual(
      group.map(({ finish }) => finish),
      ['eos', 'eos', 'eos', 'length'],
    )
    // Equal sequences have equal logprobs, whatever the server might say of them.
    assert.deepEqual(group[0]?.logps, group[2]?.logps)
    for (const { logps } of group) assert.ok(logps.every((logp) => logp < 0 && logp > -40))
  })

  it('reads the token_id: form of older servers', async () => {
    server.handle = (received, response) => {
      if (received.path !== '/v1/completions') return answer(received, response)
      const old = ANSWERS.map((ids, index) => ({
        index,
        finish_reason: REASONS[index],
        logprobs: { tokens: ids.map((id) => `token_id:${id}`) },
      }))
      response.end(JSON.stringify({ choices: old.toReversed() }))
    }
    const { trace } = await trainer.step()
    assert.deepEqual([...(trace.groups[0]?.completions[1]?.tokens ?? [])], [55, 258])
  })

  it('tries a failed request again, within its limit', async () => {
    let failures = 1
    server.handle = (received, response) => {
      if (received.path === '/v1/completions' && failures-- > 0) response.writeHead(500).end('busy')
      else answer(received, response)
    }
    await trainer.step()
    assert.equal(completions().length, 3)

    // One try more than `retries` for each of the two prompts, and no other.
    server.requests.length = 0
    failures = Infinity
    await assert.rejects(trainer.step(), { code: 'ROLLOUT_FAILED', message: /answered 500: busy/ })
    assert.ok(completions().length >= 2 && completions().length <= 4, `${completions().length} requests`)
  })

  it('gives the step up with the reason, and changes nothing', async () => {
    const state = await trainer.exportState()
    const failing: [LocalServer['handle'], RegExp][] = [
      [(_, response) => response.writeHead(400).end('no such model'), /answered 400: no such model/],
      [
        (received, response) =>
          received.path === '/v1/completions' ? response.end('<html>') : answer(received, response),
        /not JSON/,
      ],
      [
        (received, response) =>
          received.path === '/v1/completions' ? response.end('{"choices":[]}') : answer(received, response),
        /0 completions, expected 4/,
      ],
      [
        (received, response) =>
          received.path === '/v1/completions'
            ? response.end(JSON.stringify({ choices: choices([[9999], [1], [1], [1]]) }))
            : answer(received, response),
        /token 9999, the vocabulary has 259/,
      ],
      [
        (received, response) =>
          received.path === '/v1/completions'
            ? response.end(JSON.stringify({ choices: [1, 2, 3, 4].map(() => ({ text: 'a' })) }))
            : answer(received, response),
        /no token ids/,
      ],
    ]
    for (const [handle, message] of failing) {
      server.handle = handle
      await assert.rejects(trainer.step(), { code: 'ROLLOUT_FAILED', message })
      assert.deepEqual(await trainer.exportState(), state)
    }
  })

  it('waits no longer than its deadline, and can be cancelled', async () => {
    const patient = await createTrainer({
      model: ARITH.model,
      dataset: ARITH.train,
      prompts_per_step: 1,
      group_size: 4,
      max_completion_length: 6,
      threads: 1,
      rollout_server: {
        url: `${server.url}/v1`,
        adapter_dir: join(dir, 'adapter'),
        retries: 0,
        timeout_ms: 50,
        load_path: '/load_lora_adapter',
        unload_path: '/unload_lora_adapter',
      },
    })
    try {
      server.requests.length = 0
      server.handle = (received, response) =>
        received.path === '/v1/completions' ? undefined : answer(received, response)
      await assert.rejects(patient.step(), { code: 'ROLLOUT_FAILED', message: /no answer within 50 ms/ })
      // SGLang has its adapter paths beside /v1, not below it.
      assert.deepEqual(
        server.requests.slice(0, 2).map(({ path }) => path),
        ['/unload_lora_adapter', '/load_lora_adapter'],
      )
      const cancel = new AbortController()
      const step = trainer.step({ signal: cancel.signal })
      cancel.abort()
      await assert.rejects(step, { code: 'CANCELLED' })
    } finally {
      await patient.close()
    }
  })
})
