/**
 * Members that follow the protocol except where it pays them not to, and networks that alter what passes: each ends the
 * round with a named error, and no honest member's result is named.
 */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import type { RingErrorCode } from '../src/index.ts'
import { FRAME_KIND } from '../src/link/sealed-link.ts'
import { runRing, type Outcome, type RigOptions, type Tamper } from './exchange-rig.ts'
import { identityOf } from './rig.ts'

const COUNT = 4
const LENGTH = 256
/** the hostile member: neither owner of all segments nor last to see any */
const HOSTILE = 1
const vectors = Array.from({ length: COUNT }, (_, i) =>
  Float32Array.from({ length: LENGTH }, (_, k) => (i + 1) * (k % 7)),
)
const isGather = (kind: number): boolean => kind === FRAME_KIND.gather

/** Passes everything on, keeping copies of what it has sealed. */
function recorder(into: Uint8Array[], kind: number): Tamper {
  return (header, payload) => {
    if (header.kind === kind) into.push(payload.slice())
    return [{ header, payload }]
  }
}

function run(tamper: Tamper | null, options: Partial<RigOptions> = {}): Promise<Outcome[]> {
  return runRing({
    vectors,
    integrity: 'signed',
    ...(tamper === null ? {} : { tamper: new Map([[HOSTILE, tamper]]) }),
    ...options,
  })
}

/** What all honest members would end with: exact in every wire type, (1 + 2 + 3 + 4) / 4 = 2.5. */
const TRUE_MEAN = Float32Array.from({ length: LENGTH }, (_, k) => 2.5 * (k % 7))

/**
 * Somebody honest says why, so that the round cannot commit; and whoever had everything before it was altered, and so
 * has a result, has the true one.
 */
function assertRefused(outcomes: readonly Outcome[], code: RingErrorCode): void {
  const honest = outcomes.filter((_, i) => i !== HOSTILE)
  const codes = honest.map(({ error }) => error?.code)
  assert.ok(codes.includes(code), `expected ${code} among ${codes.join()}`)
  for (const { name, result } of honest) if (name !== null) assert.deepEqual(result, TRUE_MEAN)
}

describe('integrity signed: a member in the middle', () => {
  for (const wire of ['f32', 'bf16', 'int8'] as const) {
    it(`${wire}: cannot change one bit of a finished segment that it passes on`, async () => {
      const outcomes = await run(
        (header, payload) => {
          // Its own segment goes first (move 3); those of others follow.
          if (!isGather(header.kind) || header.move !== COUNT || header.chunk !== 0)
            return [{ header, payload }]
          const changed = payload.slice()
          changed[changed.length - 1] ^= 1
          return [{ header, payload: changed }]
        },
        { wire },
      )
      assertRefused(outcomes, 'BAD_SIGNATURE')
    })
  }

  it('cannot swap two parts of a segment', async () => {
    let first: { header: Parameters<Tamper>[0]; payload: Uint8Array } | null = null
    const outcomes = await run((header, payload) => {
      if (!isGather(header.kind) || header.move !== COUNT || header.chunk > 1) return [{ header, payload }]
      if (first === null) {
        first = { header, payload: payload.slice() }
        return []
      }
      return [
        { header: first.header, payload },
        { header, payload: first.payload },
      ]
    })
    assertRefused(outcomes, 'BAD_SIGNATURE')
  })

  it('cannot put another segment in the place of one', async () => {
    let own: Uint8Array[] = []
    const outcomes = await run((header, payload) => {
      if (isGather(header.kind) && header.move === COUNT - 1) own = [...own, payload.slice()]
      if (!isGather(header.kind) || header.move !== COUNT) return [{ header, payload }]
      return [{ header, payload: own[header.chunk] ?? payload }]
    })
    assertRefused(outcomes, 'BAD_SIGNATURE')
  })

  it('cannot replay a segment of an earlier round, with or without its signatures', async () => {
    for (const kinds of [[FRAME_KIND.gather], [FRAME_KIND.gather, FRAME_KIND.claim]]) {
      const old = new Map<number, Uint8Array[]>(kinds.map((kind) => [kind, []]))
      const earlier = vectors.map((vector) => vector.map((x) => x + 1))
      const record: Tamper = (header, payload) => {
        const into = old.get(header.kind)
        return into === undefined ? [{ header, payload }] : recorder(into, header.kind)(header, payload)
      }
      const clean = await run(record, { vectors: earlier, round: 1, epoch: 1 })
      assert.ok(clean.every(({ name }) => name !== null && name === clean[0].name))
      const outcomes = await run(
        (header, payload) => {
          const again = old.get(header.kind)?.shift()
          const isOwn = isGather(header.kind) && header.move === COUNT - 1
          return [{ header, payload: again === undefined || isOwn ? payload : again }]
        },
        { round: 2, epoch: 1 },
      )
      assertRefused(outcomes, 'BAD_SIGNATURE')
    }
  })

  it('cannot truncate a segment', async () => {
    const outcomes = await run((header, payload) => {
      const isCut = isGather(header.kind) && header.move === COUNT
      return [{ header, payload: isCut ? payload.subarray(0, payload.length - 4) : payload }]
    })
    assertRefused(outcomes, 'BAD_FRAME')
  })

  it('cannot alter, forge or withhold a challenge or a signature', async () => {
    const cases: [string, Tamper, RingErrorCode][] = []
    for (const kind of [FRAME_KIND.challenge, FRAME_KIND.claim]) {
      const flip: Tamper = (header, payload) => {
        if (header.kind !== kind) return [{ header, payload }]
        const changed = payload.slice()
        changed[changed.length - 1] ^= 1
        return [{ header, payload: changed }]
      }
      const rename: Tamper = (header, payload) => {
        const isOther = header.kind === kind && header.move !== HOSTILE
        return [{ header: isOther ? { ...header, move: HOSTILE } : header, payload }]
      }
      cases.push([`flip ${kind}`, flip, 'BAD_SIGNATURE'], [`rename ${kind}`, rename, 'BAD_FRAME'])
      const twice: Tamper = (header, payload) => {
        const frame = { header, payload }
        return header.kind === kind && header.move === HOSTILE ? [frame, frame] : [frame]
      }
      cases.push([`twice ${kind}`, twice, 'BAD_FRAME'])
    }
    for (const [what, tamper, code] of cases) {
      const outcomes = await run(tamper)
      const codes = outcomes.filter((_, i) => i !== HOSTILE).map(({ error }) => error?.code)
      assert.ok(codes.includes(code), `${what}: expected ${code} among ${codes.join()}`)
    }
  })

  it('cannot sign for another owner with keys of its own', async () => {
    const mine: Uint8Array[] = []
    const outcomes = await run((header, payload) => {
      if (header.kind !== FRAME_KIND.claim) return [{ header, payload }]
      if (header.move === HOSTILE) mine.push(payload.slice())
      return [{ header, payload: mine[0] ?? payload }]
    })
    assertRefused(outcomes, 'BAD_SIGNATURE')
  })
})

describe('integrity signed: who is accused', () => {
  const members = vectors.map((_, i) => identityOf(i).peerId)
  const changed = (payload: Uint8Array): Uint8Array => payload.map((byte, i) => (i === 0 ? byte ^ 1 : byte))

  /** What each member but the hostile one says: whom it accuses itself, and who may have been it. */
  function accusations(outcomes: readonly Outcome[]): (readonly [string, string | undefined, number[]])[] {
    return outcomes
      .filter((_, i) => i !== HOSTILE)
      .map(({ error }) => [
        error?.code ?? 'none',
        error?.peer,
        (error?.suspects ?? []).map((peer) => members.indexOf(peer)),
      ])
  }

  it('of an altered segment the neighbours of the culprit, and nobody else, name it; all name the pair', async () => {
    const outcomes = await run((header, payload) => {
      const isForwarded = isGather(header.kind) && header.move === COUNT
      return [{ header, payload: isForwarded ? changed(payload) : payload }]
    })
    // Members 0, 2 and 3; the segment that member 0 finished changed between 1 and 2.
    assert.deepEqual(accusations(outcomes), [
      ['BAD_SIGNATURE', undefined, [1, 2]],
      ['BAD_SIGNATURE', members[HOSTILE], [1]],
      ['BAD_SIGNATURE', undefined, [1, 2]],
    ])
  })

  for (const kind of [FRAME_KIND.challenge, FRAME_KIND.claim]) {
    it(`of an altered statement (kind ${kind}) the next member names the one that passed it on`, async () => {
      const outcomes = await run((header, payload) => {
        const isOther = header.kind === kind && header.move !== HOSTILE
        return [{ header, payload: isOther ? changed(payload) : payload }]
      })
      assert.equal(outcomes[2].error?.code, 'BAD_SIGNATURE')
      assert.deepEqual(outcomes[2].error?.suspects, [members[HOSTILE]])
      // Whoever hears only that the round was broken off accuses nobody of altering anything.
      for (const i of [0, 3]) assert.notEqual(outcomes[i].error?.code, 'BAD_SIGNATURE')
    })
  }

  it('a neighbour that breaks off says so: the others see no failed link', async () => {
    const outcomes = await run((header, payload) => {
      const isCut = isGather(header.kind) && header.move === COUNT
      return [{ header, payload: isCut ? payload.subarray(4) : payload }]
    })
    assert.equal(outcomes[2].error?.code, 'BAD_FRAME')
    for (const i of [0, 3]) assert.equal(outcomes[i].error?.code, 'BROKEN_OFF')
  })
})

describe('integrity sealed: a member in the middle that changes a segment', () => {
  it('is noticed when the names are compared, so that nothing commits', async () => {
    const outcomes = await run(
      (header, payload) => {
        if (!isGather(header.kind) || header.move !== COUNT || header.chunk !== 0)
          return [{ header, payload }]
        const changed = payload.slice()
        changed[3] ^= 1
        return [{ header, payload: changed }]
      },
      { integrity: 'sealed' },
    )
    assert.ok(outcomes.every(({ name }) => name !== null))
    assert.ok(new Set(outcomes.map(({ name }) => name)).size > 1)
  })
})

describe('frames that an honest predecessor would not send', () => {
  const frame = (change: (header: Parameters<Tamper>[0]) => Parameters<Tamper>[0]): Tamper => {
    return (header, payload) => [
      { header: header.kind === FRAME_KIND.reduce ? change(header) : header, payload },
    ]
  }
  let held: { header: Parameters<Tamper>[0]; payload: Uint8Array } | null = null
  const cases: [string, Tamper][] = [
    ['of another round', frame((header) => ({ ...header, round: 9 }))],
    ['of another move', frame((header) => ({ ...header, move: header.move + 1 }))],
    ['of another chunk', frame((header) => ({ ...header, chunk: header.chunk + 1 }))],
    ['of another kind', frame((header) => ({ ...header, kind: FRAME_KIND.gather }))],
    ['of a kind nobody knows', frame((header) => ({ ...header, kind: 200 }))],
    [
      'longer than its chunk',
      (header, payload) => [{ header, payload: Buffer.concat([payload, new Uint8Array(4)]) }],
    ],
    ['empty', (header) => [{ header, payload: new Uint8Array(0) }]],
    [
      'twice',
      (header, payload) => [
        { header, payload },
        { header, payload },
      ],
    ],
    [
      'in another order',
      (header, payload) => {
        if (header.chunk > 1) return [{ header, payload }]
        const before = held
        held = { header, payload: payload.slice() }
        return before === null ? [] : [{ header, payload }, before]
      },
    ],
  ]
  for (const [what, tamper] of cases) {
    it(`${what}: BAD_FRAME, and no result`, async () => {
      assertRefused(await run(tamper, { integrity: 'sealed', chunkBytes: 128 }), 'BAD_FRAME')
    })
  }
})

describe('a network that alters sealed frames', () => {
  const cases: [string, (bytes: Uint8Array) => Uint8Array[], RingErrorCode][] = [
    [
      'flips a bit of the ciphertext',
      (bytes) => [bytes.map((byte, i) => (i === 40 ? byte ^ 1 : byte))],
      'BAD_FRAME',
    ],
    [
      'flips a bit of the header',
      (bytes) => [bytes.map((byte, i) => (i === 8 ? byte ^ 1 : byte))],
      'BAD_FRAME',
    ],
    [
      'flips a bit of the tag',
      (bytes) => [bytes.map((byte, i) => (i === bytes.length - 1 ? byte ^ 1 : byte))],
      'BAD_FRAME',
    ],
    [
      'claims a length over the limit',
      (bytes) => [bytes.map((byte, i) => (i === 15 ? 0xff : byte))],
      'BAD_FRAME',
    ],
    ['sends a frame twice', (bytes) => [bytes, bytes], 'BAD_FRAME'],
    ['cuts a frame short and goes on', (bytes) => [bytes.subarray(0, bytes.length - 1)], 'BAD_FRAME'],
  ]
  for (const [what, cut, code] of cases) {
    it(`${what}: ${code}, and no result`, async () => {
      const outcomes = await run(null, {
        integrity: 'sealed',
        onPipe: (sender, end) => {
          let seen = 0
          if (sender === HOSTILE) end.cut = (bytes) => (seen++ === 2 ? cut(bytes) : [bytes])
        },
      })
      assertRefused(outcomes, code)
    })
  }

  it('swaps two frames: BAD_FRAME, since the nonce counts them', async () => {
    const outcomes = await run(null, {
      integrity: 'sealed',
      onPipe: (sender, end) => {
        let kept: Uint8Array | null = null
        if (sender !== HOSTILE) return
        end.cut = (bytes) => {
          if (kept === null) {
            kept = bytes
            return []
          }
          const before = kept
          kept = new Uint8Array(0)
          return [bytes, before]
        }
      },
    })
    assertRefused(outcomes, 'BAD_FRAME')
  })
})
