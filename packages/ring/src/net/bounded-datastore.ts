/**
 * Where libp2p keeps what it knows of peers, and the hash table what strangers ask it to keep: in memory, and bounded.
 * libp2p's own memory store grows with each identity that ever connected and each key that anybody announces.
 */
import { NotFoundError, type AbortOptions } from '@libp2p/interface'
import { BaseDatastore } from 'datastore-core/base'
import { Key, type KeyQuery, type Pair, type Query } from 'interface-datastore'
import { STORED_ENTRIES, STORED_VALUE_BYTES } from './defaults.ts'

interface Group {
  /** how the names in it begin */
  readonly prefix: string
  readonly most: number
  readonly entries: Map<string, Uint8Array>
}

/** Entries by group; in each the one used longest ago makes room. */
export class BoundedDatastore extends BaseDatastore {
  readonly #groups: readonly Group[] = STORED_ENTRIES.map((limit) => ({ ...limit, entries: new Map() }))

  /** How many there are. */
  get size(): number {
    return this.#groups.reduce((sum, { entries }) => sum + entries.size, 0)
  }

  /** A value over the limit is not taken, and what was there stays: a peer's entry must not grow by others' doing. */
  override put(key: Key, value: Uint8Array, options?: AbortOptions): Key {
    options?.signal?.throwIfAborted()
    const name = key.toString()
    const { entries, most } = this.#groupOf(name)
    if (value.byteLength > STORED_VALUE_BYTES) return key
    entries.delete(name)
    const [oldest] = entries.keys()
    if (oldest !== undefined && entries.size >= most) entries.delete(oldest)
    entries.set(name, value)
    return key
  }

  override get(key: Key, options?: AbortOptions): Uint8Array {
    options?.signal?.throwIfAborted()
    const name = key.toString()
    const { entries } = this.#groupOf(name)
    const value = entries.get(name)
    if (value === undefined) throw new NotFoundError(`nothing is kept under ${name}`)
    entries.delete(name)
    entries.set(name, value)
    return value
  }

  override has(key: Key, options?: AbortOptions): boolean {
    options?.signal?.throwIfAborted()
    const name = key.toString()
    return this.#groupOf(name).entries.has(name)
  }

  override delete(key: Key, options?: AbortOptions): void {
    options?.signal?.throwIfAborted()
    const name = key.toString()
    this.#groupOf(name).entries.delete(name)
  }

  override *_all({ prefix }: Query, options?: AbortOptions): Generator<Pair> {
    for (const [name, value] of this.#under(prefix)) {
      yield { key: new Key(name), value }
      options?.signal?.throwIfAborted()
    }
  }

  override *_allKeys({ prefix }: KeyQuery, options?: AbortOptions): Generator<Key> {
    for (const [name] of this.#under(prefix)) {
      yield new Key(name)
      options?.signal?.throwIfAborted()
    }
  }

  /** Entries whose name begins so, of the groups that can hold such; a copy, as whoever reads them may delete some. */
  #under(prefix = ''): [string, Uint8Array][] {
    return this.#groups
      .filter((group) => group.prefix.startsWith(prefix) || prefix.startsWith(group.prefix))
      .flatMap(({ entries }) => [...entries].filter(([name]) => name.startsWith(prefix)))
  }

  #groupOf(name: string): Group {
    const group = this.#groups.find(({ prefix }) => name.startsWith(prefix))
    if (group === undefined) throw new Error(`no group for ${name}: the last one takes all`)
    return group
  }
}
