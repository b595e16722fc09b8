/**
 * Memory of frames: given back when it is spent, not when the collector comes round, and kept by the allocator instead
 * of being returned to the kernel page by page. Together they are most of the difference between a sealed ring and a
 * slow one: bench/all-reduce.ts.
 */

/**
 * glibc returns a freed block to the kernel when it is above a threshold that starts at 128 KiB and grows, up to 32 MiB,
 * with each larger block freed. Below it, each frame's buffer would be fresh pages, zeroed by the kernel: six times the
 * cost of sealing it. This block is never written, so it costs nothing itself.
 */
const THRESHOLD_BLOCK_BYTES = 31 * 1024 * 1024

let kept = false

/** Makes the allocator keep what frames free. Once per process; without glibc it changes nothing. */
export function keepFreedMemory(): void {
  if (kept) return
  kept = true
  new ArrayBuffer(THRESHOLD_BLOCK_BYTES).transfer(0)
}
