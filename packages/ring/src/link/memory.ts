/**
 * Memory that frames free, by their owner or by `giveBack` of @gym-node/wire, is kept by the allocator instead of being
 * returned to the kernel page by page: bench/all-reduce.ts.
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
