/** Limits of the delta tools, with unit and reason. */

/** Largest delta file that a tool holds in memory at once, bytes: 2 GiB is an adapter of rank 256 for a 70 B model in f32. */
export const MAX_TOOL_DELTA_BYTES = 2 * 1024 ** 3

/** Bytes copied at a time from one model file to the other: few system calls, little memory. */
export const MERGE_COPY_BYTES = 4 * 1024 * 1024

/** Largest file beside the weights that a merge copies, bytes: tokenizers reach some 30 MB. */
export const MAX_SIDE_FILE_BYTES = 256 * 1024 * 1024

/** Bytes read at a time from a delta file. */
export const READ_CHUNK_BYTES = 1024 * 1024
