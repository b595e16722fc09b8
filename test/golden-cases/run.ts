/**
 * `npm run test:golden`: every golden case on every engine that this machine has, one engine after the other. Without a
 * GPU, WebGPU runs on SwiftShader where Chromium is installed: slow, so that of the training cases it runs the small ones.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { probe } from '../../packages/gspo/src/engine/gpu.ts'

/** Debian's chromium package: a Vulkan loader, and a driver that computes on the processor. */
const SWIFTSHADER = {
  LD_LIBRARY_PATH: '/usr/lib/chromium',
  VK_DRIVER_FILES: '/usr/lib/chromium/vk_swiftshader_icd.json',
} as const

/** Vocabularies of hundreds of tokens as large ones are gone through. */
const HEAD_IN_PARTS = { GOLDEN_HEAD_PARTS: '4' } as const

/** The models, and of the training cases those that adapt two matrices a layer. */
const SMALL_CASES = '^model |^training .*/qv |^loss'

const root = path.join(import.meta.dirname, '../..')
const cases = readdirSync(import.meta.dirname)
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => path.join(import.meta.dirname, name))
const compliance = path.join(root, 'packages/gspo/test/onnx-webgpu.test.ts')

function runTests(engine: string, files: readonly string[], more: readonly string[] = [], env = {}): boolean {
  process.stdout.write(`\n# ${engine} ${Object.entries(env).join(' ')}\n`)
  const { status } = spawnSync(process.execPath, ['--conditions=gym-source', '--test', ...more, ...files], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env, GOLDEN_ENGINES: engine },
  })
  return status === 0
}

const training = cases.filter((file) => path.basename(file) === 'rl.test.ts')

const results = [
  runTests('onnx-cpu', cases),
  runTests('onnx-cpu', training, [], HEAD_IN_PARTS),
  // In WebAssembly where no native package is installed.
  runTests('tfjs', cases),
  runTests('tfjs', training, [`--test-name-pattern=${SMALL_CASES}`], HEAD_IN_PARTS),
]

const gpu = await probe()
if (gpu.failure === null) results.push(runTests('onnx-webgpu', [...cases, compliance]))
else if (existsSync(SWIFTSHADER.VK_DRIVER_FILES)) {
  const few = [`--test-name-pattern=${SMALL_CASES}`]
  results.push(
    runTests('onnx-webgpu', [compliance], [], SWIFTSHADER),
    runTests('onnx-webgpu', cases, few, SWIFTSHADER),
  )
} else
  process.stdout.write(
    `\n# onnx-webgpu is skipped: ${gpu.failure}, and there is no ${SWIFTSHADER.VK_DRIVER_FILES}\n`,
  )

process.exitCode = results.includes(false) ? 1 : 0
