import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { describe, it } from 'node:test'
import { loadTensorflow, NATIVE_PACKAGES, WASM_PACKAGE, type ImportPackage } from '../src/tfjs/library.ts'

/** As Node reports a package that is not there. */
function absent(name: string): Error {
  return Object.assign(new Error(`Cannot find package '${name}' imported from here`), {
    code: 'ERR_MODULE_NOT_FOUND',
  })
}

/** Imports as Node does, but for the packages that `failures` names. */
function importExcept(failures: Readonly<Record<string, Error>>): ImportPackage {
  return (name) => {
    const failure = failures[name]
    return failure === undefined ? import(name) : Promise.reject(failure)
  }
}

const [gpu, cpu] = NATIVE_PACKAGES
const withoutNative = { [gpu]: absent(gpu), [cpu]: absent(cpu) }

describe('TensorFlow.js', () => {
  it('is WebAssembly where no native package is installed', async () => {
    const library = await loadTensorflow({ threads: 1 }, importExcept(withoutNative))
    assert.equal(library.isNative, false)
    assert.equal(library.name, WASM_PACKAGE)
    assert.equal(library.tf.getBackend(), 'wasm')
  })

  it('is the JavaScript backend where that is not installed either', async () => {
    const library = await loadTensorflow(
      { threads: 1 },
      importExcept({ ...withoutNative, [WASM_PACKAGE]: absent(WASM_PACKAGE) }),
    )
    assert.equal(library.isNative, false)
    assert.equal(library.name, '@tensorflow/tfjs-core')
    assert.equal(library.tf.getBackend(), 'cpu')
  })

  it('says what to install where none is', async () => {
    const core = '@tensorflow/tfjs-core'
    const loading = loadTensorflow({ threads: 1 }, importExcept({ ...withoutNative, [core]: absent(core) }))
    await assert.rejects(loading, {
      code: 'ENGINE_UNAVAILABLE',
      message: /npm install @tensorflow\/tfjs-node-gpu/,
    })
  })

  it('is refused, not replaced by JavaScript, where a native package is installed and broken', async () => {
    // What tfjs-node 4.22 throws when its library was not downloaded.
    const broken = new Error(
      'The Node.js native addon module (tfjs_binding.node) can not be found at path: x',
    )
    const loading = loadTensorflow({ threads: 1 }, importExcept({ ...withoutNative, [cpu]: broken }))
    await assert.rejects(loading, {
      code: 'ENGINE_UNAVAILABLE',
      message: /tfjs-node is installed but does not work here.*tfjs_binding.*npm rebuild/,
    })
  })

  it('is refused where a package that it needs is missing', async () => {
    const loading = loadTensorflow(
      { threads: 1 },
      importExcept({ ...withoutNative, [cpu]: absent('@mapbox/node-pre-gyp') }),
    )
    await assert.rejects(loading, { code: 'ENGINE_UNAVAILABLE', message: /node-pre-gyp/ })
  })

  it('finds the functions of node:util that its native packages call and Node no longer has', async () => {
    await loadTensorflow({ threads: 1 }, importExcept(withoutNative))
    const util = createRequire(import.meta.url)('node:util') as Record<string, (value: unknown) => boolean>
    assert.deepEqual(
      [null, undefined, 0].map((value) => util['isNullOrUndefined']?.(value)),
      [true, true, false],
    )
    assert.deepEqual(
      [[], {}].map((value) => util['isArray']?.(value)),
      [true, false],
    )
  })
})
