/** What a node does about its place in the network, decided from hand-made facts. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Connection } from '@libp2p/interface'
import { IDENTIFY_AGAIN_MS } from '../src/net/defaults.ts'
import { IdentifyAgain } from '../src/net/identify-again.ts'
import { affordableConnections, openFilesLimit } from '../src/net/open-files.ts'
import { seenHosts } from '../src/reach/reachability.ts'
import { loggerFor } from './rig.ts'

describe('asking peers again what they are', () => {
  it('goes on with the others while one never answers, and asks that one no second time meanwhile', async () => {
    const connections = ['silent', 'good', 'known'].map((id) => ({
      id,
      remotePeer: id,
    })) as unknown as Connection[]
    const asked: string[] = []
    const again = new IdentifyAgain({
      connections: () => connections,
      isKnown: async ({ id }) => id === 'known',
      identify: async ({ id }) => {
        asked.push(id)
        if (id === 'silent') await new Promise(() => undefined)
      },
      logger: loggerFor('identify'),
    })
    const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
    again.look(0)
    await settle()
    assert.deepEqual(asked, [], 'libp2p itself asks first')
    again.look(IDENTIFY_AGAIN_MS)
    await settle()
    assert.deepEqual(asked, ['silent', 'good'])
    again.look(1e12)
    await settle()
    assert.deepEqual(asked, ['silent', 'good', 'good'])
  })
})

describe('the addresses that a node tells others', () => {
  const yes = (observedHost: string) => ({ observedHost, reached: true })

  it('are those that most of the peers which dialled back name, one of each family', () => {
    const cases = [
      [[], []],
      [[yes('203.0.114.9')], ['203.0.114.9']],
      [[yes('203.0.114.9'), yes('203.0.114.9'), yes('198.18.0.1')], ['203.0.114.9']],
      [[yes('203.0.114.9'), { observedHost: '198.18.0.1', reached: false }], ['203.0.114.9']],
      [
        [yes('203.0.114.9'), yes('2001:db8::9')],
        ['203.0.114.9', '2001:db8::9'],
      ],
      [[yes('203.0.114.9'), yes('198.18.0.1')], []],
    ] as const
    for (const [answers, hosts] of cases) assert.deepEqual(seenHosts(answers), hosts)
  })
})

describe('connections', () => {
  // As Linux prints it (proc(5)).
  const LIMITS = `Limit                     Soft Limit           Hard Limit           Units
Max processes             63704                63704                processes
Max open files            1024                 524288               files
Max locked memory         8388608              8388608              bytes
`

  it('are at most what the limit of open files leaves', () => {
    assert.equal(openFilesLimit(LIMITS), 1024)
    assert.equal(openFilesLimit(''), null)
    // 1,024 files less 320 for everything else.
    assert.equal(affordableConnections(768, 1024), 704)
    assert.equal(affordableConnections(768, 1_048_576), 768)
    assert.equal(affordableConnections(768, 64), 16)
    assert.equal(affordableConnections(768, null), 768)
  })
})
