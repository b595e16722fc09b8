/** What strangers have a node keep in memory is bounded, in number and in size. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Key } from 'interface-datastore'
import { BoundedDatastore } from '../src/net/bounded-datastore.ts'
import { STORED_ENTRIES, STORED_VALUE_BYTES } from '../src/net/defaults.ts'

const value = (n: number): Uint8Array => Uint8Array.of(n & 255, n >> 8)

describe('the store of libp2p', () => {
  it('keeps what was used last, and no more of each kind than its limit', () => {
    const store = new BoundedDatastore()
    const own = new Key('/peers/own')
    store.put(own, value(7))
    for (let i = 0; i < 20_000; i++) {
      store.put(new Key(`/peers/${i}`), value(i))
      store.put(new Key(`/dht/provider/${i}/peer`), value(i))
      store.put(new Key(`/dht/record/${i}`), value(i))
      if (i % 1000 === 0) store.get(own)
    }
    assert.equal(
      store.size,
      STORED_ENTRIES.reduce((sum, { most }) => sum + most, 0),
    )
    assert.deepEqual(store.get(own), value(7))
    assert.deepEqual(store.get(new Key('/peers/19999')), value(19_999))
    assert.throws(() => store.get(new Key('/peers/1')), { name: 'NotFoundError' })
  })

  it('finds entries by the beginning of their names, and lets them be deleted meanwhile', async () => {
    const store = new BoundedDatastore()
    for (const name of [
      '/peers/a',
      '/dht/provider/x/a',
      '/dht/provider/x/b',
      '/dht/provider/y/a',
      '/dht/record/x',
    ]) {
      store.put(new Key(name), value(1))
    }
    const namesUnder = async (prefix: string): Promise<string[]> => {
      const names: string[] = []
      for await (const { key } of store.query({ prefix })) {
        names.push(key.toString())
        store.delete(key)
      }
      return names
    }
    assert.deepEqual(await namesUnder('/dht/provider/x'), ['/dht/provider/x/a', '/dht/provider/x/b'])
    assert.deepEqual(await namesUnder('/dht'), ['/dht/provider/y/a', '/dht/record/x'])
    assert.deepEqual(await namesUnder('/'), ['/peers/a'])
    assert.equal(store.size, 0)
  })

  it('takes no value over the limit, and keeps the one before', () => {
    const store = new BoundedDatastore()
    const key = new Key('/peers/a')
    store.put(key, value(1))
    store.put(key, new Uint8Array(STORED_VALUE_BYTES + 1))
    assert.deepEqual(store.get(key), value(1))
    assert.ok(store.has(key))
  })
})
