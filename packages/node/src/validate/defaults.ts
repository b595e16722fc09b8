/** Defaults and limits of validation, with unit and reason. */

/** Most tokens of a micro-batch that a worker's trace may ask of a validator, unless its own setting is higher. */
export const MAX_REPLAY_MICRO_BATCH_TOKENS = 16_384

/** Most sequences decoded at once that a worker's trace may ask of a validator, unless its own setting is higher. */
export const MAX_REPLAY_DECODING_ROWS = 1_024

/** Completions judged one by one in a verdict's detail before it only counts; a verdict is read by people. */
export const MAX_PLACES_NAMED = 3

/** Largest published verdict, bytes: 40 checks with their details and an ML-DSA-87 signature take under 20 KiB. */
export const MAX_VERDICT_BYTES = 262_144

/** Most round records in one answer: far more than any worker keeps traces for. */
export const MAX_RECORDS_ANSWERED = 1_024

/** Largest list of records or verdicts that a validator reads, bytes. */
export const MAX_LIST_BYTES = 16 * 1024 * 1024

/** Largest request of the audit protocol, bytes: a line of JSON. */
export const MAX_AUDIT_REQUEST_BYTES = 256

/** Bytes of a kept file in memory at a time while it is handed out. */
export const AUDIT_READ_BYTES = 256 * 1024

/** Requests that a worker serves at once: audits must not take the network from training. */
export const MAX_AUDIT_REQUESTS_AT_ONCE = 4

/** Deadline of serving one request, ms: a 256 MB trace at 1 MB/s. */
export const AUDIT_SERVE_TIMEOUT_MS = 300_000

/** Verdicts that a node keeps, the newest ones: enough for the rounds whose traces still exist. */
export const MAX_VERDICTS_KEPT = 1_000

/** Records of rounds that a member keeps beyond its traces': validators need the round before, too. */
export const EXTRA_RECORDS_KEPT = 2

/**
 * Largest relative difference between the mean of the signed deltas and what the ring applied. float32 sums differ by
 * 1e-6; adding a small mean to a large adapter rounds at 6e-8 of the adapter, which late in training is some 1e-4 of it.
 */
export const MAX_ROUND_SUM_ERROR = 0.005

/**
 * Largest relative change by which a residual and the delta it is left over from must round to that delta: float32
 * additions lose 1e-7, and a scale that is a mean of many another few.
 */
export const MAX_RESIDUAL_ROUNDING = 1e-5

/** Rounds that the ring may commit between a validator's look at it and the last byte fetched. */
export const AUDIT_GRACE_ROUNDS = 2

/** Waits before a validator asks again for a file whose sending broke off, ms: a worker serves others meanwhile. */
export const FETCH_AGAIN_MS: readonly number[] = [2_000, 15_000]
