/** The WebAssembly module of the kernels, as text. Addresses are bytes into its one memory; block scratch lies at 0. */
import { codeBf16, decodeBf16, sumF32 } from './floats.ts'
import { INT8_PARTS, codeInt8, decodeInt8 } from './int8.ts'

/** The module's text. */
export function kernelsText(): string {
  const sums = ['send', 'pass', 'product', 'quotient'] as const
  return [
    '(module (import "env" "memory" (memory 1))',
    ...INT8_PARTS,
    ...sums.map((sum) => sumF32(`${sum}F32`, sum)),
    ...sums.map((sum) => codeBf16(`${sum}Bf16`, sum, false)),
    ...sums.map((sum) => codeBf16(`${sum}Bf16Careful`, sum, true)),
    decodeBf16(),
    ...sums.map((sum) => codeInt8(`${sum}Int8`, sum)),
    decodeInt8(),
    ')',
  ].join('\n')
}
