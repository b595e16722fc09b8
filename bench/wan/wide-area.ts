/**
 * Hosts in network namespaces with a wide area between them: a rate, a round trip, a loss. The kernel's netem makes it
 * where there is one, else emulate.py over TUN devices.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** The path between any two hosts. */
export interface Path {
  readonly bitsPerSecond: number
  readonly roundTripMs: number
  /** of packets, 0 to 1 */
  readonly loss: number
  /** what a full queue at the sender's bottleneck holds */
  readonly queueMs: number
}

/** TCP's congestion control, as the kernel names it; a namespace may only choose what the host allows. */
export type CongestionControl = 'bbr' | 'reno'

function ip(...args: readonly string[]): void {
  execFileSync('ip', [...args], { stdio: 'pipe' })
}

/** Hosts 10.78.0.1 and on. */
export class WideArea {
  readonly kind: 'netem' | 'tun'
  readonly #names: readonly string[]
  readonly #emulator: ChildProcess | null

  private constructor(names: readonly string[], emulator: ChildProcess | null) {
    this.#names = names
    this.#emulator = emulator
    this.kind = emulator === null ? 'netem' : 'tun'
  }

  /** Makes the hosts. Throws when neither netem nor a TUN device can be had. */
  static async create(count: number, path: Path): Promise<WideArea> {
    const names = Array.from({ length: count }, (_, i) => `wan${process.pid}-${i}`)
    for (const name of names) {
      ip('netns', 'add', name)
      ip('-n', name, 'link', 'set', 'lo', 'up')
    }
    try {
      if (hasNetem(names[0] ?? '')) {
        joinByBridge(names, path)
        return new WideArea(names, null)
      }
      return new WideArea(names, await joinByEmulator(names, path))
    } catch (thrown) {
      for (const name of names) ip('netns', 'del', name)
      throw thrown
    }
  }

  addressOf(host: number): string {
    return `10.78.0.${host + 1}`
  }

  through(host: number): string[] {
    return ['ip', 'netns', 'exec', this.#names[host] ?? '']
  }

  /** For sockets opened from now on. Throws when the kernel has it not. */
  useCongestionControl(name: CongestionControl): void {
    this.#names.forEach((_, host) => {
      const [command = '', ...args] = [
        ...this.through(host),
        'sysctl',
        '-qw',
        `net.ipv4.tcp_congestion_control=${name}`,
      ]
      execFileSync(command, args, { stdio: 'pipe' })
    })
  }

  /** Removes the hosts; processes on them must have ended. */
  async remove(): Promise<void> {
    if (this.#emulator !== null) {
      const gone = once(this.#emulator, 'exit')
      this.#emulator.stdin?.end()
      await gone
    }
    for (const name of this.#names) ip('netns', 'del', name)
  }
}

function hasNetem(namespace: string): boolean {
  try {
    execFileSync(
      'ip',
      ['netns', 'exec', namespace, 'tc', 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', '1ms'],
      {
        stdio: 'pipe',
      },
    )
    execFileSync('ip', ['netns', 'exec', namespace, 'tc', 'qdisc', 'del', 'dev', 'lo', 'root'], {
      stdio: 'pipe',
    })
    return true
  } catch {
    return false // "qdisc kind is unknown": the kernel was built without it
  }
}

/** Every host on a bridge in the first one's namespace, with netem on what it sends. */
function joinByBridge(names: readonly string[], path: Path): void {
  const [hub = ''] = names
  const packets = Math.ceil(((path.bitsPerSecond / 8) * (path.queueMs + path.roundTripMs)) / 1000 / 1500)
  ip('-n', hub, 'link', 'add', 'br0', 'type', 'bridge')
  ip('-n', hub, 'link', 'set', 'br0', 'up')
  names.forEach((name, i) => {
    ip('-n', hub, 'link', 'add', `p${i}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
    ip('-n', hub, 'link', 'set', `p${i}`, 'master', 'br0', 'up')
    ip('-n', name, 'address', 'add', `10.78.0.${i + 1}/24`, 'dev', 'eth0')
    ip('-n', name, 'link', 'set', 'eth0', 'up')
    const netem = `rate ${path.bitsPerSecond} delay ${path.roundTripMs / 2}ms loss ${path.loss * 100}% limit ${packets}`
    ip('netns', 'exec', name, 'tc', 'qdisc', 'add', 'dev', 'eth0', 'root', 'netem', ...netem.split(' '))
  })
}

async function joinByEmulator(names: readonly string[], path: Path): Promise<ChildProcess> {
  const prefix = `w${process.pid % 100_000}t`
  const script = fileURLToPath(new URL('./emulate.py', import.meta.url))
  const { bitsPerSecond, roundTripMs, loss, queueMs } = path
  const numbers = [names.length, bitsPerSecond, roundTripMs / 2, loss, queueMs].map(String)
  const emulator = spawn('python3', [script, ...numbers, prefix, '1'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const [first] = (await Promise.race([
    once(emulator.stdout, 'data'),
    once(emulator, 'exit').then(() => ['ended']),
  ])) as [unknown]
  if (String(first).trim() !== 'ready') throw new Error('no TUN device can be made here')
  names.forEach((name, i) => {
    const device = `${prefix}${i}`
    ip('link', 'set', device, 'netns', name)
    ip('-n', name, 'address', 'add', `10.78.0.${i + 1}/24`, 'dev', device)
    ip('-n', name, 'link', 'set', device, 'txqueuelen', '5000', 'up')
  })
  return emulator
}
