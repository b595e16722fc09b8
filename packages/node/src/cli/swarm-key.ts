/** `gym-node swarm-key`: writes the key of a new private network. Overwrites nothing. */
import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { Command } from 'commander'
import { errnoOf, NodeError } from '../errors.ts'
import { asStateError } from '../state/atomic.ts'

const HELP = `
Copy the file to every node and relay of the network, by a way that nobody else can read, and name it in
network.swarm_key_file (relay: --swarm-key-file). Whoever has it can connect; peers without it cannot.
`

/** The command. */
export function swarmKeyCommand(): Command {
  return new Command('swarm-key')
    .description('write the key of a new private network to a file; overwrites nothing')
    .argument('[file]', 'file to write', 'swarm.key')
    .addHelpText('after', HELP)
    .action(async (file: string) => {
      const path = resolve(file)
      const { createSwarmKey } = await import('@gym-node/ring')
      try {
        const handle = await open(path, 'wx', 0o600)
        try {
          await handle.writeFile(createSwarmKey())
          await handle.sync()
        } finally {
          await handle.close()
        }
      } catch (error) {
        if (errnoOf(error) === 'EEXIST')
          throw new NodeError('OUTPUT_EXISTS', `${path} is there already`, { cause: error })
        throw asStateError(error, path)
      }
      process.stdout.write(`wrote ${path} (secret: readable by its owner only)\n`)
    })
}
