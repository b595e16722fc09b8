/** The HTTP reward against a small local server: batching, retry, deadline, and answers that do not fit. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { after, afterEach, before, describe, it } from 'node:test'
import { httpReward } from '../src/rewards/http.ts'
import type { HttpRewardOptions } from '../src/rewards/http.ts'
import type { RewardSample, Score } from '../src/rewards/types.ts'

const sample = (completion: string): RewardSample => ({
  prompt: 'p',
  completion,
  answer: 'a',
  columns: { level: 1 },
  tokens: 1,
  finished: true,
})
const call = { signal: new AbortController().signal }

describe('httpReward', () => {
  let server: Server
  let url = ''
  let requests: { samples: { completion: string }[] }[] = []
  /** Answers request number `index`; the default scores by length. */
  let handle: (index: number, response: ServerResponse, body: { samples: { completion: string }[] }) => void

  const lengths: typeof handle = (_, response, body) =>
    response.end(JSON.stringify({ rewards: body.samples.map(({ completion }) => completion.length) }))

  before(async () => {
    handle = lengths
    server = createServer((request, response) => void receive(request, response))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    assert.ok(typeof address === 'object' && address !== null)
    url = `http://127.0.0.1:${address.port}/score`
  })
  const receive = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let text = ''
    for await (const part of request) text += String(part)
    const body = JSON.parse(text) as { samples: { completion: string }[] }
    requests.push(body)
    handle(requests.length - 1, response, body)
  }
  afterEach(() => {
    requests = []
    handle = lengths
  })
  after(() => {
    server.closeAllConnections()
    server.close()
  })
  const score = (
    samples: RewardSample[],
    options: Partial<HttpRewardOptions> = {},
  ): Promise<(Score | Error)[]> =>
    httpReward('http', {
      url,
      headers: {},
      batchSize: 2,
      timeoutMs: 2000,
      retries: 1,
      deterministic: false,
      ...options,
    }).score(samples, call)

  it('sends batches of the configured size and keeps the order', async () => {
    assert.deepEqual(await score([sample('a'), sample('bb'), sample('ccc')]), [1, 2, 3])
    assert.deepEqual(
      requests.map(({ samples }) => samples.length),
      [2, 1],
    )
    assert.deepEqual(requests[0]?.samples[0], {
      prompt: 'p',
      completion: 'a',
      answer: 'a',
      columns: { level: 1 },
    })
  })
  it('tries again after a 503', async () => {
    handle = (index, response, body) =>
      index === 0 ? response.writeHead(503).end() : lengths(index, response, body)
    assert.deepEqual(await score([sample('a')]), [1])
    assert.equal(requests.length, 2)
  })
  it('does not try again after a 400, and says what the server answered', async () => {
    handle = (_, response) => response.writeHead(400).end('bad key')
    const [error] = await score([sample('a')])
    assert.match(String(error), /answered 400: bad key \(1 try\)/)
    assert.equal(requests.length, 1)
  })
  it('gives up a batch after its deadline and still scores the next one', async () => {
    handle = (index, response, body) => (index === 0 ? undefined : lengths(index, response, body))
    const scores = await score([sample('a'), sample('b'), sample('cc')], { timeoutMs: 50, retries: 0 })
    assert.match(String(scores[0]), /no answer within 50 ms/)
    assert.ok(scores[1] instanceof Error)
    assert.equal(scores[2], 2)
  })
  it('refuses the wrong number of rewards', async () => {
    handle = (_, response) => response.end('{"rewards":[1]}')
    const [error] = await score([sample('a'), sample('b')], { retries: 0 })
    assert.match(String(error), /answered 1 rewards for 2 samples/)
  })
})
