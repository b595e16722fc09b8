/** Assembles scripts/kernels into src/kernels/kernels-wasm.ts. Run: node packages/ring/scripts/build-kernels.ts */
import { writeFileSync } from 'node:fs'
import wabt from 'wabt'
import { kernelsText } from './kernels/module.ts'

const folder = new URL('../src/kernels/', import.meta.url)

/** The module's bytes, assembled from the text now. */
export async function assembleKernels(): Promise<Uint8Array> {
  const tools = await wabt()
  const module = tools.parseWat('kernels.wat', kernelsText(), { simd: true })
  try {
    module.validate()
    return module.toBinary({}).buffer
  } finally {
    module.destroy()
  }
}

if (import.meta.main) {
  const lines =
    Buffer.from(await assembleKernels())
      .toString('base64')
      .match(/.{1,100}/g) ?? []
  const text = [
    '/** Generated from scripts/kernels by scripts/build-kernels.ts; not edited by hand. */',
    '',
    '/** The WebAssembly module in base64. */',
    'export const KERNELS_BASE64: string = [',
    ...lines.map((line) => `  '${line}',`),
    "].join('')",
    '',
  ]
  writeFileSync(new URL('kernels-wasm.ts', folder), text.join('\n'))
}
