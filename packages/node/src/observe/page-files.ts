/** The dashboard's files, read once into memory: a fixed list, so that no request ever becomes a path. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

/** One file as it is served. */
export interface PageFile {
  readonly body: Buffer
  readonly type: string
  /** Strong validator over the body, for If-None-Match. */
  readonly etag: string
}

const TYPES = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
} as const

/** The page lies beside `src` and `dist`, at the same distance from both. */
const PAGE = new URL('../../page/', import.meta.url)

const OWN = [
  'index.html',
  'style.css',
  'icon.svg',
  'main.js',
  'stream.js',
  'ring.js',
  'charts.js',
  'lists.js',
  'controls.js',
  'format.js',
] as const

/** uPlot draws the charts; it is served from its own package, so the page needs no network and no build. */
const VENDOR = {
  'vendor/uplot.js': 'uplot/dist/uPlot.esm.js',
  'vendor/uplot.css': 'uplot/dist/uPlot.min.css',
}

/** All files by URL path. Throws what `fs` throws when the installation is incomplete. */
export async function readPageFiles(): Promise<ReadonlyMap<string, PageFile>> {
  const { resolve } = createRequire(import.meta.url)
  const sources: [string, string][] = [
    ...OWN.map((name): [string, string] => [name, fileURLToPath(new URL(name, PAGE))]),
    ...Object.entries(VENDOR).map(([name, specifier]): [string, string] => [name, resolve(specifier)]),
  ]
  const files = new Map<string, PageFile>()
  for (const [name, path] of sources) files.set(`/${name}`, pageFile(name, await readFile(path)))
  const index = files.get('/index.html')
  if (index !== undefined) files.set('/', index)
  return files
}

function pageFile(name: string, body: Buffer): PageFile {
  const extension = name.slice(name.lastIndexOf('.') + 1)
  const type = Object.entries(TYPES).find(([key]) => key === extension)?.[1] ?? 'application/octet-stream'
  return { body, type, etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"` }
}
