/** Runs one command of tpm2-tools with a deadline; what it printed becomes the error's message. */

import { execFile } from 'node:child_process'
import { errnoOf, NodeError } from '../errors.ts'
import { MAX_TOOL_OUTPUT_BYTES } from './defaults.ts'

/** How a tool is run. */
export interface Tpm2ToolOptions {
  /** Added to this process's environment. */
  readonly environment: Readonly<Record<string, string>>
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

/** Lines of tpm2-tools' output that say what failed, without the library's traces of where. */
function essence(output: string): string {
  const lines = output.split('\n').filter((line) => line.startsWith('ERROR: '))
  return (
    lines.map((line) => line.slice('ERROR: '.length).trim()).join('; ') ||
    output.trim().split('\n').at(-1) ||
    ''
  )
}

/** Resolves when the tool ended well. Throws NodeError('ATTESTATION_UNAVAILABLE'); rejects with the signal's reason. */
export async function runTpm2Tool(
  tool: string,
  args: readonly string[],
  options: Tpm2ToolOptions,
): Promise<void> {
  const { environment, timeoutMs, signal } = options
  signal?.throwIfAborted()
  await new Promise<void>((resolve, reject) => {
    const settings = {
      env: { ...process.env, ...environment },
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      maxBuffer: MAX_TOOL_OUTPUT_BYTES,
      ...(signal === undefined ? {} : { signal }),
    } as const
    execFile(tool, args, settings, (error, _stdout, stderr) => {
      if (error === null) return resolve()
      if (signal?.aborted === true) return reject(signal.reason as Error)
      const isMissing = errnoOf(error) === 'ENOENT'
      const why = isMissing
        ? `${tool} is not installed (Debian package tpm2-tools)`
        : error.killed === true
          ? `${tool} gave no answer in ${timeoutMs} ms`
          : `${tool} ended with ${String(error.code)}: ${essence(stderr)}`
      reject(new NodeError('ATTESTATION_UNAVAILABLE', why, { cause: error }))
    })
  })
}
