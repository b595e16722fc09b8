/**
 * Hosts in network namespaces of this machine, joined by a bridge: a network whose cables can be cut and made slow.
 * Needs root and iproute2; `whyNot` says what is missing.
 */
import { execFileSync } from 'node:child_process'

/** Null when namespaces can be made here, else the reason why not. */
export function whyNot(): string | null {
  if (process.platform !== 'linux') return 'network namespaces need Linux'
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  try {
    execFileSync('ip', ['netns', 'add', nameOf('probe')], { stdio: 'pipe' })
    execFileSync('ip', ['netns', 'del', nameOf('probe')], { stdio: 'pipe' })
    return null
  } catch (thrown) {
    return `ip netns does not work here: ${thrown instanceof Error ? thrown.message : String(thrown)}`
  }
}

/** Names of this process's own: several runs do not meet. */
function nameOf(what: string): string {
  return `gym${process.pid}-${what}`
}

function ip(...args: readonly string[]): void {
  execFileSync('ip', [...args], { stdio: 'pipe' })
}

/** `count` hosts, 10.77.0.1 and on, each in its own namespace. */
export class Namespaces {
  readonly #switch = nameOf('sw')
  readonly #hosts: string[] = []

  constructor(count: number) {
    ip('netns', 'add', this.#switch)
    ip('-n', this.#switch, 'link', 'add', 'br0', 'type', 'bridge')
    ip('-n', this.#switch, 'link', 'set', 'br0', 'up')
    for (let i = 0; i < count; i++) this.#addHost(i)
  }

  addressOf(host: number): string {
    return `10.77.0.${host + 1}`
  }

  /** A command that runs what follows it on a host. */
  through(host: number): string[] {
    return ['ip', 'netns', 'exec', this.#name(host)]
  }

  /** Nothing passes between two hosts any more, and neither is told. */
  cut(a: number, b: number): void {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      ip('-n', this.#name(from), 'route', 'replace', 'blackhole', `${this.addressOf(to)}/32`)
    }
  }

  /** Ends all cuts. */
  heal(): void {
    for (const host of this.#hosts) ip('-n', host, 'route', 'flush', 'type', 'blackhole')
  }

  /** What a host sends passes at this rate from now on; null for as fast as it can. */
  limit(host: number, rate: string | null): void {
    const qdisc = ['netns', 'exec', this.#name(host), 'tc', 'qdisc']
    if (rate === null) ip(...qdisc, 'del', 'dev', 'eth0', 'root')
    else
      ip(...qdisc, 'replace', 'dev', 'eth0', 'root', 'tbf', 'rate', rate, 'burst', '64kb', 'latency', '200ms')
  }

  /** Removes hosts and bridge; processes on them must have ended. */
  remove(): void {
    for (const name of [...this.#hosts, this.#switch]) ip('netns', 'del', name)
    this.#hosts.length = 0
  }

  #addHost(i: number): void {
    const name = nameOf(`h${i}`)
    ip('netns', 'add', name)
    this.#hosts.push(name)
    ip('-n', name, 'link', 'set', 'lo', 'up')
    ip('-n', this.#switch, 'link', 'add', `p${i}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
    ip('-n', this.#switch, 'link', 'set', `p${i}`, 'master', 'br0', 'up')
    ip('-n', name, 'address', 'add', `${this.addressOf(i)}/24`, 'dev', 'eth0')
    ip('-n', name, 'link', 'set', 'eth0', 'up')
  }

  #name(host: number): string {
    const name = this.#hosts[host]
    if (name === undefined) throw new Error(`no host ${host}`)
    return name
  }
}
