/** Memory given back when it is spent, not when the collector comes round. */

/** Smaller buffers may share their memory with others, and are not worth it. */
const MIN_GIVEN_BACK_BYTES = 4096

/** Frees the memory of a buffer that nothing else uses. Views of a larger buffer are left alone. */
export function giveBack(bytes: Uint8Array): void {
  const { buffer } = bytes
  if (!(buffer instanceof ArrayBuffer) || buffer.byteLength !== bytes.byteLength) return
  if (bytes.byteLength >= MIN_GIVEN_BACK_BYTES) buffer.transfer(0)
}
