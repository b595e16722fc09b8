/** Typed access to parsed JSON: every reader checks what it finds and names the key in its error. */
import { GspoError } from '../errors.ts'

/** Reads keys of one JSON object; throws BAD_MODEL_CONFIG. A key that is null counts as absent. */
export class ConfigReader {
  private readonly values: Readonly<Record<string, unknown>>
  private readonly file: string

  constructor(json: unknown, file: string) {
    if (typeof json !== 'object' || json === null || Array.isArray(json))
      throw new GspoError('BAD_MODEL_CONFIG', `${file} holds no JSON object`)
    this.values = json as Record<string, unknown>
    this.file = file
  }

  /** Whether the key is there at all, be it null. */
  has(key: string): boolean {
    return key in this.values
  }

  /** A number; absent is an error without a default. */
  number(key: string, missing?: number): number {
    const value = this.values[key] ?? missing
    if (typeof value !== 'number' || !Number.isFinite(value)) return this.fail(key, 'a number', value)
    return value
  }

  /** A number, or null where absent. */
  optionalNumber(key: string): number | null {
    return this.values[key] === undefined || this.values[key] === null ? null : this.number(key)
  }

  /** A whole number of at least 1. */
  size(key: string, missing?: number): number {
    const value = this.number(key, missing)
    return Number.isSafeInteger(value) && value >= 1
      ? value
      : this.fail(key, 'a whole number of at least 1', value)
  }

  /** True or false. */
  flag(key: string, missing: boolean): boolean {
    const value = this.values[key] ?? missing
    return typeof value === 'boolean' ? value : this.fail(key, 'true or false', value)
  }

  /** A string. */
  text(key: string, missing: string): string {
    const value = this.values[key] ?? missing
    return typeof value === 'string' ? value : this.fail(key, 'a string', value)
  }

  /** A list of strings, empty where absent. */
  strings(key: string): string[] {
    const value = this.values[key] ?? []
    if (!Array.isArray(value)) return this.fail(key, 'a list of strings', value)
    return value.map((item) => (typeof item === 'string' ? item : this.fail(key, 'a list of strings', value)))
  }

  /** A whole number or a list of them, empty where absent. */
  integers(key: string): number[] {
    const value = this.values[key] ?? []
    const list: unknown[] = Array.isArray(value) ? value : [value]
    return list.map((item) =>
      typeof item === 'number' && Number.isSafeInteger(item) ? item : this.fail(key, 'whole numbers', value),
    )
  }

  /** A nested object; undefined where absent. */
  section(key: string): ConfigReader | undefined {
    const value = this.values[key]
    return value === undefined || value === null ? undefined : new ConfigReader(value, `${this.file} ${key}`)
  }

  private fail(key: string, wanted: string, seen: unknown): never {
    throw new GspoError(
      'BAD_MODEL_CONFIG',
      `${this.file}: ${key} is ${seen === undefined ? 'missing' : JSON.stringify(seen)}; it must be ${wanted}`,
    )
  }
}
