/** Encodes Protocol Buffers (proto3 wire format): just what an ONNX model needs, and no reading. */

/** A message under construction; field numbers come from onnx.proto. */
export class Message {
  private readonly chunks: Uint8Array[] = []
  private size = 0

  /** A non-negative integer or, for int64 fields, a negative one in two's complement. */
  int(field: number, value: number | bigint): this {
    this.push(varint((field << 3) | 0))
    this.push(varint(BigInt.asUintN(64, BigInt(value))))
    return this
  }

  /** A 32-bit float. */
  float(field: number, value: number): this {
    const bytes = new Uint8Array(4)
    new DataView(bytes.buffer).setFloat32(0, value, true)
    this.push(varint((field << 3) | 5))
    this.push(bytes)
    return this
  }

  /** Bytes, a string in UTF-8, or a nested message. */
  bytes(field: number, value: Uint8Array | string | Message): this {
    const content =
      typeof value === 'string'
        ? Buffer.from(value, 'utf8')
        : value instanceof Message
          ? value.encode()
          : value
    this.push(varint((field << 3) | 2))
    this.push(varint(content.length))
    this.push(content)
    return this
  }

  /** A packed list of integers. */
  ints(field: number, values: readonly number[]): this {
    const packed = new Message()
    for (const value of values) packed.push(varint(BigInt.asUintN(64, BigInt(value))))
    return this.bytes(field, packed)
  }

  /** The message's bytes. */
  encode(): Uint8Array {
    const out = new Uint8Array(this.size)
    let offset = 0
    for (const chunk of this.chunks) {
      out.set(chunk, offset)
      offset += chunk.length
    }
    return out
  }

  private push(chunk: Uint8Array): void {
    this.chunks.push(chunk)
    this.size += chunk.length
  }
}

function varint(value: number | bigint): Uint8Array {
  const bytes: number[] = []
  if (typeof value === 'number' && value < 0x80000000) {
    let rest = value
    for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80)
    bytes.push(rest)
  } else {
    let rest = BigInt(value)
    for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80)
    bytes.push(Number(rest))
  }
  return Uint8Array.from(bytes)
}
