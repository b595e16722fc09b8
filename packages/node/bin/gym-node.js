#!/usr/bin/env node
/**
 * Entry of the `gym-node` command: finds a Node that is new enough, then runs the TypeScript sources (in a
 * checkout) or `dist/` (installed). Plain JavaScript that also parses on old versions of Node.
 */
import { spawn } from 'node:child_process'
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs'
import module from 'node:module'
import { homedir } from 'node:os'
import { dirname, join, sep } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const REQUIRED_NODE_MAJOR = 24
const SOURCE_CONDITION = 'gym-source'

const here = dirname(fileURLToPath(import.meta.url))
const sourceEntry = join(here, '..', 'src', 'cli', 'entry.ts')
const builtEntry = join(here, '..', 'dist', 'cli', 'entry.js')
/** A checkout runs what can be edited; Node strips no types under node_modules, so an installed package is built. */
const inCheckout = existsSync(sourceEntry) && !here.split(sep).includes('node_modules')

if (Number(process.versions.node.split('.')[0]) < REQUIRED_NODE_MAJOR) runWithNewerNode()
else await runHere()

/** Runs the command in this process. */
async function runHere() {
  useCompileCache()
  if (!inCheckout) {
    await import(pathToFileURL(builtEntry).href)
    return
  }
  module.registerHooks({
    resolve: (specifier, context, next) =>
      next(specifier, { ...context, conditions: [...context.conditions, SOURCE_CONDITION] }),
  })
  // Child processes (the training engine, the daemons of `ring`) need the same condition.
  const option = `--conditions=${SOURCE_CONDITION}`
  const options = process.env.NODE_OPTIONS ?? ''
  if (!options.includes(option)) process.env.NODE_OPTIONS = `${options} ${option}`.trim()
  await import(pathToFileURL(sourceEntry).href)
}

/**
 * Keeps compiled code in the user's cache folder, for child processes too: a command starts in half the time. Where
 * there is no such folder, or it cannot be written to (a service, a container), nothing is kept and all works.
 */
function useCompileCache() {
  const folder = process.env.NODE_COMPILE_CACHE ?? makeCacheFolder()
  if (folder === null) return
  process.env.NODE_COMPILE_CACHE = folder
  module.enableCompileCache(folder)
}

/** `gym-node` in the user's cache folder, or null. One level at a time: Node's recursive way can hang under /proc. */
function makeCacheFolder() {
  try {
    // systemd names the service's own cache folder in CACHE_DIRECTORY.
    const base = process.env.CACHE_DIRECTORY ?? process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache')
    const folder = join(base, 'gym-node')
    for (const level of [base, folder]) if (!existsSync(level)) mkdirSync(level, { mode: 0o700 })
    accessSync(folder, constants.W_OK)
    return folder
  } catch {
    return null // no home, or a read-only one
  }
}

/** Hands over to the Node of the npm package `node`, which a checkout installs; says so when there is none. */
function runWithNewerNode() {
  const newer = findNewerNode()
  if (newer === null) {
    process.stderr.write(
      `error NODE_TOO_OLD: gym-node needs Node ${REQUIRED_NODE_MAJOR} or later, this is ${process.version}. ` +
        'Install it from https://nodejs.org, or run `npm install` in a checkout, which brings its own.\n',
    )
    process.exitCode = 2
    return
  }
  const withIpc = process.channel != null
  const stdio = withIpc ? ['inherit', 'inherit', 'inherit', 'ipc'] : 'inherit'
  const child = spawn(newer, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio })
  // A terminal sends Ctrl+C to both of us; the child counts signals that come together as one.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  if (withIpc) {
    child.on('message', (message) => process.send(message))
    process.on('disconnect', () => child.disconnect())
  }
  child.on('error', (error) => {
    process.stderr.write(`error NODE_TOO_OLD: ${newer} does not start: ${error.message}\n`)
    process.exitCode = 2
  })
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}

/** Path of a Node binary brought by the npm package `node`, or null. */
function findNewerNode() {
  let folder = here
  for (;;) {
    const candidate = join(folder, 'node_modules', 'node', 'bin', 'node')
    if (existsSync(candidate)) return candidate
    const parent = dirname(folder)
    if (parent === folder) return null
    folder = parent
  }
}
