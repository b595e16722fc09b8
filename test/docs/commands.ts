/** Every command line in the documentation: where it stands, and how the test of the documentation treats it. Pure. */

/** One line of a shell block. */
export interface DocumentedCommand {
  readonly page: string
  readonly line: string
}

/** Lines that are not run here, and what runs them instead or why nothing can. */
const NOT_RUN: readonly { readonly matches: RegExp; readonly reason: string }[] = [
  {
    matches: /^(systemctl|journalctl) /,
    reason: 'needs a booted systemd; operations.test.ts checks the unit',
  },
  { matches: /^gym-node service install /, reason: 'writes to /etc; operations.test.ts runs it with --dir' },
  { matches: /^kubectl /, reason: 'needs a cluster; observe-deploy.test.ts renders and checks the files' },
  { matches: /^npm ci && npm start$/, reason: 'ring-command.test.ts runs what npm start runs' },
  { matches: /^npm start -- --model /, reason: 'ring-command.test.ts runs it on the demo model' },
  {
    matches: /^(ONNXRUNTIME_NODE_INSTALL=skip )?npm install --global /,
    reason: 'bench/first-step.ts installs the packed packages and trains',
  },
  {
    matches: /^(TORCH_PYTHON=\S+ )?node --conditions=gym-source bench\//,
    reason: 'a benchmark: minutes, and numbers that a test cannot judge',
  },
  { matches: /^npm install @tensorflow\//, reason: 'optional engines; engine tests of gspo run them' },
  {
    matches: /--bootstrap \/ip4\/203\.0\.113\./,
    reason: 'an address for documentation; ring.test.ts joins by --bootstrap',
  },
]

/** The lines of all `sh` blocks of a page, joined where a backslash continues them, without comments. */
export function commandsOf(page: string, text: string): DocumentedCommand[] {
  return [...text.matchAll(/```sh\n([\s\S]*?)```/g)]
    .flatMap(([, block]) => (block ?? '').replaceAll('\\\n', ' ').split('\n'))
    .map((line) => line.replace(/\s#.*$/, '').trim())
    .filter((line) => line !== '')
    .map((line) => ({ page, line: line.replace(/^npx (?=gym-node )/, '') }))
}

/** Why a line is not run; null when it is. */
export function reasonNotToRun(line: string): string | null {
  return NOT_RUN.find(({ matches }) => matches.test(line))?.reason ?? null
}
