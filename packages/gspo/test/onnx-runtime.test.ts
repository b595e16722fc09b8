/** What is said where ONNX Runtime's library is missing or broken; the messages are Node's own for such installations. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { loadOnnxRuntime } from '../src/engine/onnx-runtime.ts'

const failing = (message: string, code: string): Promise<unknown> =>
  loadOnnxRuntime(() => Promise.reject(Object.assign(new Error(message), { code })))

describe('ONNX Runtime', () => {
  it('says how to install it where it is not', async () => {
    for (const [message, code] of [
      [
        "Cannot find package 'onnxruntime-node' imported from /app/dist/onnx-runtime.js",
        'ERR_MODULE_NOT_FOUND',
      ],
      ["Cannot find module 'onnxruntime-node/package.json'\nRequire stack:\n- /app/x.js", 'MODULE_NOT_FOUND'],
    ] as const)
      await assert.rejects(failing(message, code), {
        code: 'ENGINE_UNAVAILABLE',
        message: /^onnxruntime-node is not installed: npm install/,
      })
  })
  it('says why it does not load, and that it wants to be installed again, without a stack of files', async () => {
    for (const [message, code, reason] of [
      [
        "Cannot find module '../bin/napi-v6/linux/x64/onnxruntime_binding.node'\nRequire stack:\n- /app/a.js",
        'MODULE_NOT_FOUND',
        /does not load here: Cannot find module '\.\.\/bin\/.*node'\. Its library/,
      ],
      [
        '/app/onnxruntime_binding.node: file too short',
        'ERR_DLOPEN_FAILED',
        /file too short\. Its library is for glibc/,
      ],
    ] as const)
      await assert.rejects(failing(message, code), { code: 'ENGINE_UNAVAILABLE', message: reason })
  })
})
