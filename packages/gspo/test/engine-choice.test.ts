import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { describe, it } from 'node:test'
import { chooseEngine, reasonForProcessor, type EngineDemand } from '../src/engine/choose.ts'
import { createEngine } from '../src/engine/create.ts'
import { deviceInLoaderLog, judgeDevice, memoryInNvidiaList, probe } from '../src/engine/gpu.ts'

/** Debian's chromium package: a Vulkan loader, and a driver that computes on the processor. */
const SWIFTSHADER = {
  LD_LIBRARY_PATH: '/usr/lib/chromium',
  VK_DRIVER_FILES: '/usr/lib/chromium/vk_swiftshader_icd.json',
} as const

/** A dense model of 0.6 billion parameters. */
const LARGE: EngineDemand = { parameters: 6e8, hasExperts: false, bytes: 6 * 2 ** 30 }
const GPU = { name: 'NVIDIA GeForce RTX 4090', memoryBytes: 24 * 2 ** 30 }

describe('engine auto', () => {
  it('keeps small models and mixtures of experts on the processor, without looking for a GPU', () => {
    assert.match(reasonForProcessor({ ...LARGE, parameters: 8e5 }) ?? '', /0\.8 million .* 50 million/)
    assert.match(reasonForProcessor({ ...LARGE, hasExperts: true }) ?? '', /experts/)
    assert.equal(reasonForProcessor(LARGE), null)
  })

  it('takes a GPU that the model fits into, or whose memory is unknown', () => {
    assert.equal(chooseEngine(LARGE, GPU).engine, 'onnx-webgpu')
    assert.equal(chooseEngine(LARGE, { ...GPU, memoryBytes: null }).engine, 'onnx-webgpu')
  })

  it('takes the processor where the GPU is too small or absent, and says so', () => {
    assert.deepEqual(chooseEngine({ ...LARGE, bytes: 30 * 2 ** 30 }, GPU), {
      engine: 'onnx-cpu',
      reason: 'the model needs about 30.0 GB, NVIDIA GeForce RTX 4090 has 24.0 GB',
      isGpuIdle: false,
    })
    const reason = 'this machine shows no GPU'
    assert.deepEqual(chooseEngine(LARGE, { name: null, reason, isIdle: false }), {
      engine: 'onnx-cpu',
      reason,
      isGpuIdle: false,
    })
  })

  it('warns of a GPU that would pay and cannot be used', async () => {
    const reason = "the GPU's Vulkan driver is missing"
    for (const isIdle of [true, false]) {
      const searchGpu = () => Promise.resolve({ name: null, reason, isIdle })
      const engine = await createEngine('auto', { threads: 1, demand: LARGE, searchGpu })
      assert.equal(engine.note.text, `onnx-cpu, chosen by auto: ${reason}`)
      assert.equal(engine.note.isWarning, isIdle)
      await engine.close()
    }
  })

  it('names the engine and the reason in its note', async () => {
    const engine = await createEngine('auto', { threads: 1, demand: { ...LARGE, parameters: 1000 } })
    assert.equal(engine.name, 'onnx-cpu')
    assert.match(engine.note.text, /^onnx-cpu, chosen by auto: .*parameters/)
    assert.equal(engine.note.isWarning, false)
    await engine.close()
  })

  it('computes on the processor where the GPU that it saw does not work after all', async () => {
    const hidden = process.env['VK_DRIVER_FILES']
    process.env['VK_DRIVER_FILES'] = '/nowhere.json'
    try {
      const engine = await createEngine('auto', { threads: 1, demand: LARGE, searchGpu: async () => GPU })
      assert.equal(engine.name, 'onnx-cpu')
      assert.match(engine.note.text, /^onnx-cpu, chosen by auto: no GPU that WebGPU can use/)
      assert.equal(engine.note.isWarning, true)
      await engine.close()
    } finally {
      if (hidden === undefined) delete process.env['VK_DRIVER_FILES']
      else process.env['VK_DRIVER_FILES'] = hidden
    }
  })
})

describe('the device that WebGPU took', () => {
  it('is read from what the Vulkan loader writes', () => {
    // Written by loader 1.3.239 (Debian 12) and 1.4.364 (Chromium) with SwiftShader's driver.
    const older =
      'DRIVER:                  Using "SwiftShader Device (Subzero)" with driver: "/usr/lib/chromium/./libvk_swiftshader.so"\n'
    const newer = `DRIVER:         Searching for driver manifest files\n[Vulkan Loader] ${older}`
    assert.equal(deviceInLoaderLog(older), 'SwiftShader Device (Subzero)')
    assert.equal(deviceInLoaderLog(newer), 'SwiftShader Device (Subzero)')
    assert.equal(deviceInLoaderLog('DRIVER: Found no drivers'), null)
  })

  it('is refused when it computes on the processor', () => {
    for (const name of [
      'SwiftShader Device (Subzero)',
      'llvmpipe (LLVM 15.0.6, 256 bits)',
      'Microsoft Basic Render Driver',
    ])
      assert.equal(judgeDevice(name, null).name, null, name)
    for (const name of [
      'NVIDIA H100 80GB HBM3',
      'AMD Radeon RX 7900 XTX (RADV NAVI31)',
      'Intel(R) Arc(tm) A770 Graphics (DG2)',
    ])
      assert.equal(judgeDevice(name, null).name, name)
    assert.equal(judgeDevice(null, null).name, null)
  })

  it(
    'is found by trying, with its name, in a process of its own',
    { skip: existsSync(SWIFTSHADER.VK_DRIVER_FILES) ? false : `there is no ${SWIFTSHADER.VK_DRIVER_FILES}` },
    async () => {
      assert.deepEqual(await probe(SWIFTSHADER), { name: 'SwiftShader Device (Subzero)', failure: null })
    },
  )

  it('is none where the Vulkan loader finds no driver', async () => {
    const { name, failure } = await probe({ VK_DRIVER_FILES: '/nowhere.json' })
    assert.equal(name, null)
    assert.match(failure ?? '', /no GPU that WebGPU can use: .*adapter/)
  })

  it('has the memory that nvidia-smi lists for its name', () => {
    const list = 'NVIDIA T4, 15360\nNVIDIA H100 80GB HBM3, 81559\n'
    assert.equal(memoryInNvidiaList(list, 'NVIDIA H100 80GB HBM3'), 81559 * 2 ** 20)
    assert.equal(memoryInNvidiaList(list, 'Quadro P400'), null)
  })
})
