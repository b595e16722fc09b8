/**
 * The line between a daemon and the process that started it as a child with an IPC channel (`gym-node ring`):
 * events go up, and when the parent goes away the daemon stops. A daemon started otherwise has none.
 */
import { z } from 'zod'
import type { DaemonEvent } from './status.ts'

/** What a daemon tells its parent. */
export type ParentMessage =
  | {
      readonly type: 'listening'
      readonly peerId: string
      readonly addresses: readonly string[]
      readonly http: string | null
    }
  | { readonly type: 'event'; readonly event: DaemonEvent; readonly bytesSent: number }
  | { readonly type: 'failed'; readonly code: string; readonly message: string }

/** The daemon's end. */
export interface ParentLink {
  send(message: ParentMessage): void
}

/** Opens the line when this process has one; `onGone` is called once when the parent goes away. */
export function openParentLink(onGone: () => void): ParentLink {
  if (process.send === undefined) return { send: () => undefined }
  process.once('disconnect', onGone)
  // The channel alone must not keep a daemon alive that has stopped.
  process.channel?.unref()
  return {
    send: (message) => {
      // A failed send means that the parent is gone, which `disconnect` reports.
      if (process.connected) process.send?.(message, undefined, undefined, () => undefined)
    },
  }
}

const eventTypes = ['state', 'step', 'round', 'view', 'delta', 'verdict', 'rollout', 'error'] as const

const messageSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('listening'),
    peerId: z.string(),
    addresses: z.array(z.string()),
    http: z.string().nullable(),
  }),
  z.object({
    type: z.literal('event'),
    event: z.custom<DaemonEvent>(
      (value) => z.looseObject({ type: z.enum(eventTypes) }).safeParse(value).success,
    ),
    bytesSent: z.number(),
  }),
  z.object({ type: z.literal('failed'), code: z.string(), message: z.string() }),
])

/** The parent's end: a message of a child of ours, or null when it is something else. */
export function parseParentMessage(value: unknown): ParentMessage | null {
  const result = messageSchema.safeParse(value)
  return result.success ? result.data : null
}
