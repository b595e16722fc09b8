/** The number in the middle of the sorted values, of an even count the upper one; undefined of none. */
export function middle(values: readonly number[]): number | undefined {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]
}
