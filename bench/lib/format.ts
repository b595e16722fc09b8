/** Small pieces that benchmarks print with. */

export { median } from '../../packages/node/src/validate/quality-statistics.ts'
