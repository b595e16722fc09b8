/** An ONNX model under construction: nodes, initializers, inputs and outputs, written as a protobuf. */
import { Message } from './protobuf.ts'

/** Element type numbers of onnx.proto's TensorProto.DataType. */
export const ONNX_TYPE = {
  f32: 1,
  uint8: 2,
  i8: 3,
  i32: 6,
  i64: 7,
  bool: 9,
  f16: 10,
  bf16: 16,
  uint4: 21,
} as const

/** An attribute's value: a float must say so, a plain number is an integer. */
export type Attribute = number | readonly number[] | string | { readonly float: number }

interface Node {
  readonly type: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes: Readonly<Record<string, Attribute>>
  readonly domain: string | undefined
}

const IR_VERSION = 10
const OPSET = 21
const PRODUCER = 'gym-node'

/** Collects the parts of one model. */
export class OnnxModel {
  private readonly graph = new Message()
  private readonly initializers = new Set<string>()
  private readonly nodes: Node[] = []
  /** What nodes make, by the name that it was given first. */
  private readonly made = new Map<string, string>()

  /** Appends a node and returns the name of its first output, which is made up unless given. */
  node(
    type: string,
    inputs: readonly string[],
    attributes: Record<string, Attribute> = {},
    options: { outputs?: readonly string[]; domain?: 'com.microsoft' } = {},
  ): string {
    const outputs = options.outputs ?? [`v${this.nodes.length}`]
    for (const output of outputs) this.made.set(output, output)
    this.nodes.push({ type, inputs, outputs, attributes, domain: options.domain })
    return outputs[0] ?? ''
  }

  /** A constant inside the model; the same name is written once. */
  constant(name: string, type: number, dims: readonly number[], raw: Uint8Array): string {
    if (this.initializers.has(name)) return name
    this.initializers.add(name)
    this.graph.bytes(5, new Message().ints(1, dims).int(2, type).bytes(8, name).bytes(9, raw))
    return name
  }

  /** A constant whose bytes lie in a file, at `location` relative to the session's folder for external data. */
  external(
    name: string,
    type: number,
    dims: readonly number[],
    place: { location: string; offset: number; length: number },
  ): string {
    if (this.initializers.has(name)) return name
    this.initializers.add(name)
    const tensor = new Message().ints(1, dims).int(2, type).bytes(8, name)
    for (const [key, value] of Object.entries(place))
      tensor.bytes(13, new Message().bytes(1, key).bytes(2, `${value}`))
    this.graph.bytes(5, tensor.int(14, 1))
    return name
  }

  /** Declares an input with sizes that are numbers or symbols. */
  input(name: string, type: number, shape: readonly (number | string)[]): void {
    this.graph.bytes(11, valueInfo(name, type, shape))
  }

  /**
   * Declares an output with the value of `source`, under whose name its node then writes it; what no node makes, or is an
   * output already, is copied. The shape is left to the runtime's own inference.
   */
  output(name: string, type: number, source: string): void {
    if (this.made.get(source) === source) this.made.set(source, name)
    else this.node('Identity', [source], {}, { outputs: [name] })
    this.graph.bytes(12, valueInfo(name, type, undefined))
  }

  /** The whole model as bytes. */
  encode(): Uint8Array {
    for (const [index, node] of this.nodes.entries()) this.graph.bytes(1, this.encodeNode(node, index))
    const opset = (domain: string, version: number): Message => new Message().bytes(1, domain).int(2, version)
    return new Message()
      .int(1, IR_VERSION)
      .bytes(2, PRODUCER)
      .bytes(7, this.graph.bytes(2, 'graph'))
      .bytes(8, opset('', OPSET))
      .bytes(8, opset('com.microsoft', 1))
      .encode()
  }

  private encodeNode({ type, inputs, outputs, attributes, domain }: Node, index: number): Message {
    const node = new Message()
    for (const input of inputs) node.bytes(1, this.made.get(input) ?? input)
    for (const output of outputs) node.bytes(2, this.made.get(output) ?? output)
    node.bytes(3, `${type}_${index}`).bytes(4, type)
    for (const [name, value] of Object.entries(attributes)) node.bytes(5, attribute(name, value))
    if (domain !== undefined) node.bytes(7, domain)
    return node
  }
}

function attribute(name: string, value: Attribute): Message {
  const message = new Message().bytes(1, name)
  if (typeof value === 'number') return message.int(3, value).int(20, 2)
  if (typeof value === 'string') return message.bytes(4, value).int(20, 3)
  if ('float' in value) return message.float(2, value.float).int(20, 1)
  for (const item of value) message.int(8, item)
  return message.int(20, 7)
}

function valueInfo(name: string, type: number, shape: readonly (number | string)[] | undefined): Message {
  const tensor = new Message().int(1, type)
  if (shape !== undefined) {
    const dims = new Message()
    for (const dim of shape)
      dims.bytes(1, typeof dim === 'number' ? new Message().int(1, dim) : new Message().bytes(2, dim))
    tensor.bytes(2, dims)
  }
  return new Message().bytes(1, name).bytes(2, new Message().bytes(1, tensor))
}
