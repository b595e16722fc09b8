/** What the machine is: Node, processor, memory and graphics. */
import { constants } from 'node:fs'
import { access, readFile } from 'node:fs/promises'
import { cpus, freemem, totalmem } from 'node:os'
import { aeadEngine } from '@gym-node/wire'
import { formatBytes } from '../cli/format.ts'
import { LEAST_MEMORY_BYTES } from '../defaults.ts'
import { errnoOf } from '../errors.ts'
import { finding, type Finding } from './finding.ts'

/** One finding a part. Changes nothing. */
export async function examineHardware(): Promise<Finding[]> {
  return [nodeVersion(), await processor(), memory(), await graphics(), sealing()]
}

function nodeVersion(): Finding {
  return finding('ok', 'Node', `${process.versions.node} on ${process.platform}-${process.arch}`)
}

async function processor(): Promise<Finding> {
  const all = cpus()
  const seen = `${all.length} x ${all[0]?.model.trim() ?? 'unknown'}`
  if (process.arch !== 'x64' || process.platform !== 'linux') return finding('ok', 'processor', seen)
  const flags = new Set(
    /^flags\s*: (.*)$/m.exec(await readFile('/proc/cpuinfo', 'utf8').catch(() => ''))?.[1]?.split(' '),
  )
  const wanted = ['avx2', 'avx512f', 'avx512_vnni', 'amx_tile'].filter((flag) => flags.has(flag))
  if (!flags.has('avx2'))
    return finding(
      'warning',
      'processor',
      `${seen}, no AVX2`,
      'training works, several times slower; use a newer processor',
    )
  return finding('ok', 'processor', `${seen}, ${wanted.join(' ')}`)
}

function memory(): Finding {
  const seen = `${formatBytes(freemem())} free of ${formatBytes(totalmem())}`
  if (totalmem() < LEAST_MEMORY_BYTES)
    return finding(
      'warning',
      'memory',
      seen,
      'small models only: the weights and about as much again must fit',
    )
  return finding('ok', 'memory', seen)
}

async function graphics(): Promise<Finding> {
  const nvidia = await readFile('/proc/driver/nvidia/version', 'utf8').catch(() => null)
  const render = await access('/dev/dri/renderD128', constants.R_OK | constants.W_OK).then(
    () => 'usable',
    (error: unknown) => errnoOf(error),
  )
  const driver =
    nvidia === null ? [] : [`NVIDIA driver ${/\d+\.\d+(\.\d+)?/.exec(nvidia)?.[0] ?? 'of unknown version'}`]
  if (render === 'usable' || nvidia !== null)
    return finding(
      'ok',
      'GPU',
      [...driver, ...(render === 'usable' ? ['/dev/dri/renderD128'] : [])].join(', '),
    )
  if (render === 'EACCES')
    return finding(
      'warning',
      'GPU',
      '/dev/dri/renderD128 is there but not for this user',
      'add the user to the groups render and video',
    )
  return finding('ok', 'GPU', 'none found, training runs on the processor')
}

function sealing(): Finding {
  if (aeadEngine().name === 'openssl') return finding('ok', 'sealing', 'OpenSSL of this Node, in place')
  return finding(
    'ok',
    'sealing',
    'through node:crypto, which makes rounds cost a tenth to a quarter more processor time',
    'nothing is wrong; without --omit=optional npm installs koffi, which calls OpenSSL directly',
  )
}
