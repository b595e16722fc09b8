/**
 * Hosts, routers with NAT and a public segment between them, as Linux network namespaces on this machine. Needs root,
 * `ip` and `nft`. The addresses are public ones, as libp2p treats private ones differently; no packet leaves the machine.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'

/** Why namespaces cannot be used here, or false. */
export function namespaceRefusal(): string | false {
  if (process.platform !== 'linux') return 'network namespaces need Linux'
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  const probe = `gymprobe${process.pid}`
  try {
    run('ip', 'netns', 'add', probe)
    run('ip', 'netns', 'exec', probe, 'nft', 'list', 'ruleset')
    return false
  } catch (thrown) {
    return `network namespaces cannot be used: ${thrown instanceof Error ? thrown.message.split('\n')[0] : ''}`
  } finally {
    quietly('ip', 'netns', 'del', probe)
  }
}

/**
 * What a NAT makes of an inside port: `kept` the same number outside; `moved` another number, the same for every
 * destination; `varying` another number for every destination, behind which nobody can know where to knock.
 */
export type NatKind = 'kept' | 'moved' | 'varying'

const MASQUERADE: Readonly<Record<NatKind, string>> = {
  kept: 'masquerade',
  moved: 'meta l4proto tcp masquerade to :20000-29999',
  varying: 'meta l4proto tcp masquerade to :20000-29999 fully-random',
}

/** One public network 45.10.0.0/24 with hosts in it and private networks behind NAT. */
export class Internet {
  readonly #prefix = `gym${process.pid}x`
  readonly #names: string[] = []
  readonly #children: ChildProcess[] = []

  constructor() {
    this.#add('core')
    this.#in('core', 'ip', 'link', 'add', 'br0', 'type', 'bridge')
    this.#in('core', 'ip', 'link', 'set', 'br0', 'up')
  }

  /** A host with an address of its own in the public network: 45.10.0.`number`. */
  addPublicHost(name: string, number: number): void {
    this.#add(name)
    this.#connectToCore(name, `45.10.0.${number}`)
  }

  /** A host at 192.168.`number`.2 behind a router at 45.10.0.`number` that masquerades and lets nothing in unasked. */
  addHostBehindNat(name: string, number: number, kind: NatKind = 'kept'): void {
    const router = `${name}r`
    this.#add(router)
    this.#add(name)
    this.#connectToCore(router, `45.10.0.${number}`)
    this.#cable(router, 'lan', name)
    this.#in(router, 'ip', 'addr', 'add', `192.168.${number}.1/24`, 'dev', 'lan')
    this.#in(router, 'ip', 'link', 'set', 'lan', 'up')
    this.#in(name, 'ip', 'addr', 'add', `192.168.${number}.2/24`, 'dev', 'eth0')
    this.#in(name, 'ip', 'link', 'set', 'eth0', 'up')
    this.#in(name, 'ip', 'route', 'add', 'default', 'via', `192.168.${number}.1`)
    this.#in(router, 'sysctl', '-qw', 'net.ipv4.ip_forward=1')
    const chain = (hook: string): string =>
      `chain ${hook} {
        type filter hook ${hook} priority 0; policy drop;
        ct state established,related accept
        iifname "lan" accept
      }`
    const rules = `
      table ip nat {
        chain post {
          type nat hook postrouting priority 100;
          oifname "eth0" ${MASQUERADE[kind]}
        }
      }
      table ip filter {
        ${chain('input')}
        ${chain('forward')}
      }
    `
    execFileSync('ip', ['netns', 'exec', this.#full(router), 'nft', '-f', '-'], {
      input: rules,
      stdio: ['pipe', 'ignore', 'pipe'],
    })
  }

  /** Runs Node with a script in a host. */
  start(name: string, script: URL, config: object): ChildProcess {
    const args = ['netns', 'exec', this.#full(name), process.execPath, '--conditions=gym-source']
    const child = spawn('ip', [...args, script.pathname, JSON.stringify(config)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#children.push(child)
    return child
  }

  /** Ends the processes it started and takes everything away. */
  close(): void {
    for (const child of this.#children) child.stdin?.end()
    for (const child of this.#children) child.kill('SIGKILL')
    for (const name of this.#names) quietly('ip', 'netns', 'del', this.#full(name))
  }

  /** Joins `port` of one namespace to eth0 of another. */
  #cable(from: string, port: string, to: string): void {
    const ends = [
      port,
      'netns',
      this.#full(from),
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      this.#full(to),
    ]
    run('ip', 'link', 'add', ...ends)
  }

  #connectToCore(name: string, address: string): void {
    const port = `p${this.#names.length}`
    this.#cable('core', port, name)
    this.#in('core', 'ip', 'link', 'set', port, 'master', 'br0')
    this.#in('core', 'ip', 'link', 'set', port, 'up')
    this.#in(name, 'ip', 'addr', 'add', `${address}/24`, 'dev', 'eth0')
    this.#in(name, 'ip', 'link', 'set', 'eth0', 'up')
  }

  #add(name: string): void {
    run('ip', 'netns', 'add', this.#full(name))
    this.#names.push(name)
    this.#in(name, 'ip', 'link', 'set', 'lo', 'up')
  }

  #in(name: string, ...command: string[]): void {
    run('ip', 'netns', 'exec', this.#full(name), ...command)
  }

  #full(name: string): string {
    return this.#prefix + name
  }
}

function run(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

function quietly(command: string, ...args: string[]): void {
  try {
    run(command, ...args)
  } catch {
    // It was not there, or goes with the last process in it.
  }
}
