/** The HTTP reward against a small local server: batching, retry, deadline, and answers that do not fit. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { httpReward } from '../src/rewards/http.ts'
import type { HttpRewardOptions } from '../src/rewards/http.ts'
import type { RewardSample, Score } from '../src/rewards/types.ts'
import { startServer } from './local-server.ts'
import type { LocalServer } from './local-server.ts'

const sample = (completion: string): RewardSample => ({
  prompt: 'p',
  completion,
  answer: 'a',
  columns: { level: 1 },
  tokens: 1,
  finished: true,
})
const call = { signal: new AbortController().signal }

type Body = { samples: { completion: string }[] }

describe('httpReward', () => {
  let server: LocalServer
  const bodies = (): Body[] => server.requests.map(({ body }) => body as unknown as Body)
  /** Scores by length. */
  const lengths: LocalServer['handle'] = ({ body }, response) => {
    const { samples } = body as unknown as Body
    response.end(JSON.stringify({ rewards: samples.map(({ completion }) => completion.length) }))
  }
  before(async () => {
    server = await startServer(lengths)
  })
  afterEach(() => {
    server.requests.length = 0
    server.handle = lengths
  })
  after(() => server.close())
  const score = (
    samples: RewardSample[],
    options: Partial<HttpRewardOptions> = {},
  ): Promise<(Score | Error)[]> =>
    httpReward('http', {
      url: server.url,
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
      bodies().map(({ samples }) => samples.length),
      [2, 1],
    )
    assert.deepEqual(bodies()[0]?.samples[0], {
      prompt: 'p',
      completion: 'a',
      answer: 'a',
      columns: { level: 1 },
    })
  })
  it('tries again after a 503', async () => {
    server.handle = (received, response) =>
      server.requests.length === 1 ? response.writeHead(503).end() : lengths(received, response)
    assert.deepEqual(await score([sample('a')]), [1])
    assert.equal(server.requests.length, 2)
  })
  it('gives up after its retries, and says how often it tried', async () => {
    server.handle = (_, response) => response.writeHead(503).end('busy')
    const [error] = await score([sample('a')])
    assert.match(String(error), /answered 503: busy \(2 tries\)/)
    assert.equal(server.requests.length, 2)
  })
  it('a server that is not there is an error of its samples, after as many tries', async () => {
    const gone = await startServer(lengths)
    gone.close()
    const [error] = await score([sample('a')], { url: gone.url })
    assert.match(String(error), /fetch failed: connect ECONNREFUSED .*\(2 tries\)/)
  })
  it('does not try again after a 400, and says what the server answered', async () => {
    server.handle = (_, response) => response.writeHead(400).end('bad key')
    const [error] = await score([sample('a')])
    assert.match(String(error), /answered 400: bad key \(1 try\)/)
    assert.equal(server.requests.length, 1)
  })
  it('gives up a batch after its deadline and still scores the next one', async () => {
    server.handle = (received, response) =>
      server.requests.length === 1 ? undefined : lengths(received, response)
    const scores = await score([sample('a'), sample('b'), sample('cc')], { timeoutMs: 50, retries: 0 })
    assert.match(String(scores[0]), /no answer within 50 ms/)
    assert.ok(scores[1] instanceof Error)
    assert.equal(scores[2], 2)
  })
  it('refuses the wrong number of rewards', async () => {
    server.handle = (_, response) => response.end('{"rewards":[1]}')
    const [error] = await score([sample('a'), sample('b')], { retries: 0 })
    assert.match(String(error), /answered 1 rewards for 2 samples/)
  })
})
