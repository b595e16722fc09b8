/** The list of known peers over a long run: peers that stay do not expire. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { DEFAULT_LIMITS } from '../src/defaults.ts'
import { BookKeeper } from '../src/discovery/book-keeper.ts'
import { BOOK_MAX_AGE_MS } from '../src/net/defaults.ts'
import { loggerFor, MemoryStore } from './rig.ts'

describe('the list of known peers over a long run', () => {
  it('peers that were connected at the end of a run of months are known at the next start, those long gone are not', async (t) => {
    t.mock.timers.enable({ apis: ['Date'], now: 1e12 })
    const store = new MemoryStore()
    const keeper = (): BookKeeper =>
      new BookKeeper(store, 'job', DEFAULT_LIMITS, loggerFor('book'), () => false)
    const first = keeper()
    await first.load()
    first.note('stays', ['/ip4/192.0.2.1/tcp/1'])
    first.note('goes', ['/ip4/192.0.2.2/tcp/1'])
    t.mock.timers.setTime(1e12 + 3 * BOOK_MAX_AGE_MS)
    await first.close([{ peer: 'stays', addresses: ['/ip4/192.0.2.1/tcp/1'] }])
    assert.deepEqual(
      (await keeper().load()).map(({ peer }) => peer),
      ['stays'],
    )
  })

  it('keeps the members of the ring while strangers without number say hello and go', async () => {
    const store = new MemoryStore()
    const isMember = (peer: string): boolean => peer === 'member'
    const keeper = new BookKeeper(
      store,
      'job',
      { ...DEFAULT_LIMITS, bookPeers: 3 },
      loggerFor('book'),
      isMember,
    )
    keeper.note('member', ['/ip4/192.0.2.1/tcp/1'])
    for (let i = 0; i < 10; i++) keeper.note(`stranger ${i}`, ['/ip4/192.0.2.2/tcp/1'])
    await keeper.close([])
    const again = new BookKeeper(store, 'job', DEFAULT_LIMITS, loggerFor('book'), isMember)
    assert.deepEqual((await again.load()).map(({ peer }) => peer).sort(), [
      'member',
      'stranger 8',
      'stranger 9',
    ])
  })
})
