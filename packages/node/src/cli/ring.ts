/** `gym-node ring`: several daemons on this machine train together, as a demonstration and as a test of a machine. */
import { Command } from 'commander'
import type { RingFlags } from '../ring-command/options.ts'

const HELP = `
Each daemon is a process of its own, with its own identity, state folder and TCP port on loopback. The output
folder gets node-<i>/ (state folders, with deltas/round-<r>.delta), node-<i>.yaml and node-<i>.log, adapter/
(PEFT) and summary.json. With --validator every node draws with a seed of its own identity, so a run cannot be
repeated to the bit; --set validator.sample_rate=1 audits every delta that time allows.

Examples:
  gym-node ring                                          three nodes train the demo model
  gym-node ring --nodes 1 --rounds 5                     one node, without peers
  gym-node ring --validator                              a fourth daemon replays what they did and judges it
  gym-node ring --model ./qwen --dataset train.jsonl --test-dataset test.jsonl --reward ./reward.ts --out ./run
`

/** The command. */
export function ringCommand(): Command {
  const collect = (value: string, before: readonly string[] = []): string[] => [...before, value]
  return new Command('ring')
    .description('start a ring of daemons on this machine, train, and report what was learned')
    .option('-n, --nodes <n>', 'daemons to start (3)')
    .option('-r, --rounds <n>', 'rounds of the ring, then stop')
    .option('--steps <n>', 'local steps in a round')
    .option('--model <folder>', 'Hugging Face model folder (the demo model)')
    .option('--dataset <file>', 'JSONL with prompt and answer')
    .option('--test-dataset <file>', 'held-out JSONL to evaluate on before and after')
    .option('--reward <name|module>', 'built-in reward, or a module with a reward function (exact_match)')
    .option('--out <folder>', 'output folder (a temporary one, named at the end)')
    .option('--seed <n>', 'seed of data order and sampling (0)')
    .option(
      '--validator',
      'a daemon that trains nothing and audits the others, replaying a share of their rounds',
    )
    .option('--threads <n>', 'threads of each daemon')
    .option('--json', 'print JSON lines')
    .option('--set <key=value>', "set any key of the daemons' configuration (repeatable)", collect)
    .addHelpText('after', HELP)
    .action(async (flags: RingFlags) => {
      const { runRing } = await import('../ring-command/launcher.ts')
      await runRing(flags)
    })
}
