/**
 * When a stream's receiver gives its sender room again. @libp2p/yamux (8.0.3) does so after every piece of data, with a
 * message that is sealed, written, read and opened like any other, and so doubles the messages of a quiet stream. Other
 * implementations wait until half of the window is used (hashicorp/yamux, rust-yamux #109), and so does a stream here.
 */
import type { Stream } from '@libp2p/interface'

/** What a stream of yamux has beyond the interface: bytes the sender may still send, and may send at most. */
interface Windowed {
  recvWindowCapacity: number
  recvWindow: number
  sendWindowUpdate(): void
}

/** A stream that is none of yamux is left alone. */
export function updateWindowSparingly(stream: Stream): void {
  if (!isWindowed(stream)) return
  const update = stream.sendWindowUpdate.bind(stream)
  // The first one also accepts the stream, and must not wait.
  let isFirst = true
  stream.sendWindowUpdate = () => {
    if (!isFirst && stream.recvWindowCapacity > stream.recvWindow / 2) return
    isFirst = false
    update()
  }
}

function isWindowed(stream: Stream): stream is Stream & Windowed {
  const { recvWindowCapacity, recvWindow, sendWindowUpdate } = stream as Partial<Windowed>
  return (
    typeof recvWindowCapacity === 'number' &&
    typeof recvWindow === 'number' &&
    typeof sendWindowUpdate === 'function'
  )
}
