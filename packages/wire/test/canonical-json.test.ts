/** RFC 8785: the examples of its sections 3.2.2 and 3.2.3 and of appendix B, and what must be refused. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { JsonValue } from '@gym-node/wire'
import { canonicalJson, parseCanonicalJson } from '@gym-node/wire'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const refuses = (value: unknown): void => {
  assert.throws(() => canonicalJson(value as JsonValue), { code: 'BAD_JSON' })
}

describe('canonicalJson', () => {
  it('writes the example of RFC 8785, section 3.2.2', () => {
    const text = String.raw`{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],
      "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`
    assert.equal(
      canonicalJson(JSON.parse(text) as JsonValue),
      String.raw`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
    )
  })

  it('sorts members by UTF-16 code units, as in RFC 8785, section 3.2.3', () => {
    const value = {
      '\u20ac': 'Euro Sign',
      '\r': 'Carriage Return',
      '\ufb33': 'Hebrew Letter Dalet With Dagesh',
      '1': 'One',
      '\ud83d\ude00': 'Emoji: Grinning Face',
      '\u0080': 'Control',
      '\u00f6': 'Latin Small Letter O With Diaeresis',
    }
    const names = [...canonicalJson(value).matchAll(/:"([^"]+)"/g)].map((match) => match[1])
    assert.deepEqual(names, [
      'Carriage Return',
      'One',
      'Control',
      'Latin Small Letter O With Diaeresis',
      'Euro Sign',
      'Emoji: Grinning Face',
      'Hebrew Letter Dalet With Dagesh',
    ])
  })

  // RFC 8785, appendix B: IEEE 754 bits and their JSON.
  const numbers: [string, string][] = [
    ['0000000000000000', '0'],
    ['8000000000000000', '0'],
    ['0000000000000001', '5e-324'],
    ['8000000000000001', '-5e-324'],
    ['7fefffffffffffff', '1.7976931348623157e+308'],
    ['4340000000000000', '9007199254740992'],
    ['c340000000000000', '-9007199254740992'],
    ['4430000000000000', '295147905179352830000'],
    ['44b52d02c7e14af5', '9.999999999999997e+22'],
    ['44b52d02c7e14af6', '1e+23'],
    ['44b52d02c7e14af7', '1.0000000000000001e+23'],
    ['444b1ae4d6e2ef4e', '999999999999999700000'],
    ['444b1ae4d6e2ef4f', '999999999999999900000'],
    ['444b1ae4d6e2ef50', '1e+21'],
    ['3eb0c6f7a0b5ed8c', '9.999999999999997e-7'],
    ['3eb0c6f7a0b5ed8d', '0.000001'],
    ['41b3de4355555553', '333333333.3333332'],
    ['41b3de4355555557', '333333333.33333343'],
    ['becbf647612f3696', '-0.0000033333333333333333'],
    ['43143ff3c1cb0959', '1424953923781206.2'],
  ]
  it('writes the numbers of RFC 8785, appendix B', () => {
    for (const [bits, expected] of numbers) {
      assert.equal(canonicalJson(Buffer.from(bits, 'hex').readDoubleBE()), expected, bits)
    }
  })

  it('refuses what JSON cannot hold', () => {
    const cycle: unknown[] = []
    cycle.push(cycle)
    const deep = Array.from({ length: 200 }).reduce<JsonValue>((inner) => [inner], 1)
    for (const value of [
      NaN,
      Infinity,
      undefined,
      1n,
      '\ud800',
      { a: undefined },
      [undefined],
      new Date(0),
      new Map(),
      () => 1,
      { '\udc00': 1 },
      cycle,
      deep,
      { toJSON: 1 },
    ])
      refuses(value)
  })
})

describe('parseCanonicalJson', () => {
  it('reads back what canonicalJson wrote', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        const text = canonicalJson(JSON.parse(JSON.stringify(value)) as JsonValue)
        assert.equal(canonicalJson(parseCanonicalJson(bytes(text), 'value')), text)
      }),
      { seed: 20260102 },
    )
  })

  it('refuses every other spelling of the same document', () => {
    for (const text of [
      '{"b":1,"a":2}',
      '{"a":1,"a":1}',
      '{ "a":1}',
      '1.0',
      '1e3',
      '"\\u0041"',
      '-0',
      '{"a":1}\n',
      '',
    ]) {
      assert.throws(() => parseCanonicalJson(bytes(text), 'value'), { code: 'BAD_JSON' }, text)
    }
  })

  it('refuses malformed UTF-8 and a byte order mark', () => {
    assert.throws(() => parseCanonicalJson(Uint8Array.of(0x22, 0xff, 0x22), 'value'), { code: 'BAD_DELTA' })
    assert.throws(() => parseCanonicalJson(Uint8Array.of(0xef, 0xbb, 0xbf, 0x31), 'value'), {
      code: 'BAD_JSON',
    })
  })
})
