/** Loads a model folder and an engine into a `Policy`. */
export type * from './policy-types.ts'
