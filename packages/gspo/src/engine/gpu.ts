/**
 * Finds out whether this machine has a GPU that WebGPU computes on. A child process tries it: a driver that crashes takes
 * only the child along, and the Vulkan loader, asked to talk, names the device. Linux only.
 */
import { execFile, fork } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { CHILD_OUTPUT_TAIL_BYTES, GPU_PROBE_TIMEOUT_MS, GPU_QUERY_TIMEOUT_MS } from '../defaults.ts'
import { exportConditions } from '../process/export-conditions.ts'

/** A GPU that multiplied two matrices rightly. */
export interface Gpu {
  /** As its driver calls it, e.g. NVIDIA H100 80GB HBM3. */
  readonly name: string
  /** All of its memory, where the system tells. */
  readonly memoryBytes: number | null
}

/** A GPU, or why there is none to compute on; `isIdle` where the machine has one all the same. */
export type GpuSearch = Gpu | { readonly name: null; readonly reason: string; readonly isIdle: boolean }

/** Device files by which a machine's GPUs show: render nodes of every vendor, NVIDIA's own, and Windows' inside WSL. */
const DEVICE_FILES = [
  { folder: '/dev/dri', pattern: /^renderD\d+$/ },
  { folder: '/dev', pattern: /^(?:nvidia\d+|dxg)$/ },
] as const

/** Drivers that compute on the processor and present themselves as a GPU. */
const SOFTWARE_DEVICE = /swiftshader|llvmpipe|lavapipe|softpipe|\bCPU\b|Basic Render/i

/** Looks for a GPU; never throws. Where the machine has no device file of one, nothing is started. */
export async function findGpu(): Promise<GpuSearch> {
  if (process.platform !== 'linux')
    return { name: null, reason: `GPUs are looked for on Linux, this is ${process.platform}`, isIdle: false }
  if ((await deviceFiles()).length === 0)
    return {
      name: null,
      reason: 'this machine shows no GPU (/dev/dri/renderD*, /dev/nvidia*)',
      isIdle: false,
    }
  const { name, failure } = await probe()
  if (failure !== null) return { name: null, reason: `WebGPU does not work here: ${failure}`, isIdle: true }
  return judgeDevice(name, name === null ? null : await memoryOf(name))
}

/** Whether the device that WebGPU took is a real GPU. Pure. */
export function judgeDevice(name: string | null, memoryBytes: number | null): GpuSearch {
  if (name === null)
    return { name, reason: 'the Vulkan loader did not say which device WebGPU took', isIdle: true }
  if (SOFTWARE_DEVICE.test(name))
    return {
      name: null,
      reason: `WebGPU took ${name}, which computes on the processor: the GPU's Vulkan driver is missing`,
      isIdle: true,
    }
  return { name, memoryBytes }
}

/** The device that a Vulkan program took, from what its loader wrote under VK_LOADER_DEBUG=driver; null without one. */
export function deviceInLoaderLog(log: string): string | null {
  return [...log.matchAll(/Using "(.+?)" with driver: "/g)].at(-1)?.[1] ?? null
}

/**
 * Tries WebGPU in a child with `env` beside this process's: the name of the device it took, a software one too, and why
 * it failed or null.
 */
export async function probe(
  env: Readonly<Record<string, string>> = {},
): Promise<{ name: string | null; failure: string | null }> {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  const entry = fileURLToPath(new URL(`./gpu-probe.${extension}`, import.meta.url))
  const child = fork(entry, [], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    execArgv: exportConditions(),
    env: { ...process.env, ...env, VK_LOADER_DEBUG: 'driver' },
    timeout: GPU_PROBE_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  })
  let log = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-8 * CHILD_OUTPUT_TAIL_BYTES)
  })
  let failure: string | null = null
  child.on('message', (message) => (failure = typeof message === 'string' ? message : null))
  const end = await new Promise<string | null>((resolve) => {
    child.on('error', (error) => resolve(error.message))
    // `close`: the pipe is empty then, and the device's name has been read.
    child.on('close', (code, signal) =>
      resolve(code === 0 ? null : `the process that tried it ended with ${signal ?? `code ${code}`}`),
    )
  })
  return { name: deviceInLoaderLog(log), failure: failure ?? end }
}

async function deviceFiles(): Promise<string[]> {
  const found = await Promise.all(
    DEVICE_FILES.map(async ({ folder, pattern }) => {
      // No such folder: no such device.
      const names = await readdir(folder).catch(() => [])
      return names.filter((name) => pattern.test(name)).map((name) => path.join(folder, name))
    }),
  )
  return found.flat()
}

/** Memory of the GPU of this name: NVIDIA's tool tells it by name, AMD's driver by card. */
async function memoryOf(name: string): Promise<number | null> {
  const told = await promisify(execFile)(
    'nvidia-smi',
    ['--query-gpu=name,memory.total', '--format=csv,noheader,nounits'],
    { timeout: GPU_QUERY_TIMEOUT_MS },
  ).catch(() => null) // No such tool, or no driver for it: the memory stays unknown.
  const nvidia = told === null ? null : memoryInNvidiaList(told.stdout, name)
  if (nvidia !== null || !/AMD|Radeon/i.test(name)) return nvidia
  const cards = await readdir('/sys/class/drm').catch(() => [])
  const sizes = await Promise.all(
    cards.map((card) =>
      readFile(`/sys/class/drm/${card}/device/mem_info_vram_total`, 'utf8').then(Number, () => 0),
    ),
  )
  return Math.max(0, ...sizes) || null
}

/** The memory, bytes, that nvidia-smi lists (MiB) for a GPU of this name; null when it lists none. */
export function memoryInNvidiaList(list: string, name: string): number | null {
  for (const line of list.split('\n')) {
    const [gpu = '', mebibytes = ''] = line.split(',').map((part) => part.trim())
    if (gpu === name && Number(mebibytes) > 0) return Number(mebibytes) * 2 ** 20
  }
  return null
}
