/** Every default and limit of this package, with its unit and its reason. */

/** Largest safetensors header in bytes: the format's own limit (100 MB), so that a bad length never allocates more. */
export const MAX_SAFETENSORS_HEADER_BYTES = 100_000_000

/** Threads an engine uses when none are asked for: two, the smallest machine this project is meant for. */
export const DEFAULT_THREADS = 2
