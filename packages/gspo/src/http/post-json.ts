/**
 * A JSON POST with a deadline a try, a retry limit and a limit on the answer's size: what every call to a server of
 * somebody else needs. Retries network failures, 429 and 5xx; never another 4xx.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { HTTP_RETRY_BASE_MS, HTTP_RETRY_MAX_MS, MAX_HTTP_RESPONSE_BYTES } from '../defaults.ts'

/** How a request is made. */
export interface PostOptions {
  readonly headers?: Readonly<Record<string, string>>
  /** Deadline of one try, milliseconds. */
  readonly timeoutMs: number
  /** Tries after the first one. */
  readonly retries: number
  readonly signal?: AbortSignal
}

/** A status that another try will not mend. */
class FinalStatus extends Error {}

/** POSTs `body` as JSON and returns the parsed answer. Rejects as postText, and when the answer is not JSON. */
export async function postJson(url: string, body: unknown, options: PostOptions): Promise<unknown> {
  const text = await postText(url, body, options)
  try {
    return JSON.parse(text) as unknown
  } catch (cause) {
    throw new Error(`${url}: the answer is not JSON: ${text.slice(0, 200)}`, { cause })
  }
}

/** POSTs `body` as JSON and returns the answer's text. Rejects with the last failure, or the signal's reason when cancelled. */
export async function postText(url: string, body: unknown, options: PostOptions): Promise<string> {
  const payload = JSON.stringify(body)
  for (let attempt = 0; ; attempt++) {
    options.signal?.throwIfAborted()
    try {
      return await postOnce(url, payload, options)
    } catch (error) {
      options.signal?.throwIfAborted()
      if (error instanceof FinalStatus || attempt >= options.retries) {
        const reason = reasonOf(error)
        throw new Error(`${url}: ${reason} (${attempt + 1} ${attempt === 0 ? 'try' : 'tries'})`, {
          cause: error,
        })
      }
    }
    await sleep(
      Math.min(HTTP_RETRY_MAX_MS, HTTP_RETRY_BASE_MS * 2 ** attempt),
      undefined,
      options.signal === undefined ? {} : { signal: options.signal },
    )
  }
}

async function postOnce(url: string, payload: string, options: PostOptions): Promise<string> {
  const deadline = AbortSignal.timeout(options.timeoutMs)
  const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal])
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...options.headers },
      body: payload,
      redirect: 'error',
      signal,
    })
    const text = await readLimited(response)
    if (response.ok) return text
    const message = `answered ${response.status}: ${text.slice(0, 200)}`
    if (response.status === 429 || response.status >= 500) throw new Error(message)
    throw new FinalStatus(message)
  } catch (error) {
    if (deadline.aborted) throw new Error(`no answer within ${options.timeoutMs} ms`, { cause: error })
    throw error
  }
}

/** fetch says only "fetch failed" itself; what failed (a refused connection, a redirect) is in the cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { cause } = error
  return error.message === 'fetch failed' && cause instanceof Error
    ? `${error.message}: ${cause.message}`
    : error.message
}

async function readLimited(response: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let bytes = 0
  if (response.body === null) return ''
  for await (const part of response.body as AsyncIterable<Uint8Array>) {
    bytes += part.byteLength
    if (bytes > MAX_HTTP_RESPONSE_BYTES)
      throw new FinalStatus(`answer is over ${MAX_HTTP_RESPONSE_BYTES} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}
