/** The history thread: owns the SQLite file, so that neither a slow disk nor a long scan ever holds up a round. */
import { parentPort, workerData } from 'node:worker_threads'
import type { HistoryLimits } from './defaults.ts'
import { HistoryStore, isBadFile } from './history-store.ts'
import type { HistoryReply, HistoryRequest } from './history.ts'

const { path, job, limits } = workerData as { path: string; job: string; limits: HistoryLimits }

let store: HistoryStore | null = null

function open(): HistoryStore {
  store ??= HistoryStore.open(path, job, limits, (fields) => {
    reply({ kind: 'aside', ...fields })
  })
  return store
}

function reply(message: HistoryReply): void {
  parentPort?.postMessage(message)
}

/** Runs `work`; when SQLite finds the file bad on the way, drops the handle so that `open` sets the file aside, and tries once more. */
function withStore<T>(work: (store: HistoryStore) => T): T {
  try {
    return work(open())
  } catch (error) {
    if (!isBadFile(error)) throw error
    drop()
    return work(open())
  }
}

function drop(): void {
  const old = store
  store = null
  try {
    old?.close()
  } catch {
    // A corrupt file may refuse to close cleanly; it is about to be set aside whole.
  }
}

function answer(request: HistoryRequest): unknown {
  switch (request.kind) {
    case 'append':
      withStore((s) => {
        s.append(request.events)
      })
      return request.events.length
    case 'read':
      return withStore((s) => s.read(request.query))
    case 'recent':
      return withStore((s) => s.recent(request.type, request.limit))
    case 'close':
      drop()
      return null
  }
}

parentPort?.on('message', (request: HistoryRequest) => {
  try {
    reply({ kind: 'done', id: request.id, value: answer(request) })
  } catch (error) {
    const failure = error instanceof Error ? error : new Error(String(error))
    reply({ kind: 'failed', id: request.id, message: failure.message })
  }
  if (request.kind === 'close') parentPort?.close()
})
