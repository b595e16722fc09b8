/** Server-sent events over fetch, because EventSource cannot carry a token; reconnects for ever, ever more slowly. */
/* global fetch, TextDecoderStream, setTimeout, AbortController, clearTimeout */

const FIRST_WAIT_MS = 1000
const LONGEST_WAIT_MS = 15_000
/** The daemon speaks at least every 15 s; a longer silence is a dead connection. */
const SILENCE_MS = 40_000

/** Calls `on.open`, `on.event(name, body)` and `on.lost(reason)`. `headers()` is asked at each attempt. */
export async function follow(url, headers, on) {
  let wait = FIRST_WAIT_MS
  for (;;) {
    const reason = await listenOnce(url, headers(), {
      ...on,
      open() {
        wait = FIRST_WAIT_MS
        on.open()
      },
    })
    on.lost(reason)
    await new Promise((resolve) => setTimeout(resolve, wait))
    wait = Math.min(wait * 2, LONGEST_WAIT_MS)
  }
}

async function listenOnce(url, headers, on) {
  const abort = new AbortController()
  let timer = setTimeout(() => abort.abort(), SILENCE_MS)
  try {
    const response = await fetch(url, { headers, signal: abort.signal, cache: 'no-store' })
    if (!response.ok) return response.status === 401 ? 'token needed' : `refused with ${response.status}`
    on.open()
    let rest = ''
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      clearTimeout(timer)
      timer = setTimeout(() => abort.abort(), SILENCE_MS)
      const frames = (rest + text).split('\n\n')
      rest = frames.pop()
      for (const frame of frames) deliver(frame, on)
    }
    return 'closed by the daemon'
  } catch {
    return 'daemon out of reach'
  } finally {
    clearTimeout(timer)
    abort.abort()
  }
}

function deliver(frame, on) {
  let name = 'message'
  let body = null
  for (const line of frame.split('\n')) {
    if (line.startsWith('event: ')) name = line.slice(7)
    else if (line.startsWith('data: ')) body = JSON.parse(line.slice(6))
  }
  if (body !== null) on.event(name, body)
}
