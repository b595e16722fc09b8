/** The pages of docs/ that are made from the code: configuration and error codes. `write-docs.ts` writes them. */
import { LIVE_KEYS } from '../src/config/live.ts'
import { CONFIG_KEYS, environmentName, flatKeys } from '../src/config/keys.ts'
import { NODE_ERRORS } from '../src/errors.ts'
import { EXIT_CODES } from '../src/exit-codes.ts'

const NOTICE = '<!-- Made from the code: npm run docs writes it, a test compares it. -->'

/** Text of each generated page by its path under docs/. */
export function generatedPages(): ReadonlyMap<string, string> {
  return new Map([
    ['CONFIGURATION.md', configurationPage()],
    ['ERRORS.md', errorsPage()],
  ])
}

function configurationPage(): string {
  const sections = CONFIG_KEYS.map((section) => {
    const keys =
      section.children.length === 0
        ? [section]
        : flatKeys(section.children).filter((key) => key.children.length === 0 || key.fallback !== undefined)
    const rows = keys
      .filter((key) => !key.path.includes('*'))
      .map(
        (key) =>
          `| \`${key.path}\` | ${cell(key.takes)} | ${fallback(key.fallback)} | ${cell(key.description)} | \`${environmentName(key.path)}\` |`,
      )
    return `## ${section.path}\n\n${section.description}\n\n| key | takes | default | what it is | variable |\n| --- | --- | --- | --- | --- |\n${rows.join('\n')}\n`
  })
  return `${NOTICE}

# Configuration

\`gym-node\` reads \`gym.yaml\`: the file named by \`--config\`, else by \`GYM_CONFIG\`, else the one in the working
directory. \`gym-node init\` writes one with every key explained. A value comes from the first of these that has it: a
flag (\`--set train.group_size=4\`; common keys have flags of their own, see \`gym-node start --help\`), the environment
variable, the file, the default. A key that is not known is an error, wherever it stands.

Paths are relative to the file; in flags and variables to the working directory; \`~\` and \`$HOME\` are refused, since
no shell reads them there. Lists in variables are YAML
(\`["a", "b"]\`) or separated by commas. On SIGHUP the daemon reads the configuration again and takes over
${LIVE_KEYS.map((key) => `\`${key}\``).join(', ')}; everything else needs a restart.

${sections.join('\n')}`
}

function errorsPage(): string {
  const exits = Object.values(EXIT_CODES).map(({ code, meaning }) => `| ${code} | ${meaning} |`)
  const errors = Object.entries(NODE_ERRORS).map(
    ([code, { exit, next }]) => `| \`${code}\` | ${EXIT_CODES[exit].code} | ${cell(next)} |`,
  )
  return `${NOTICE}

# Error codes

A command that fails prints one line, \`error CODE: what was seen and expected (what to do)\`, and ends with an exit code.
\`--debug\` adds the stack. The same codes are in the log (\`code\`), in the status document and in the metrics' labels.

## Exit codes

| code | meaning |
| --- | --- |
${exits.join('\n')}
| 128 + n | ended at once by a second signal n |

A service manager may restart after 1, 4 and 7. After 2, 3, 5 and 6 a restart changes nothing until somebody acts; the
unit of \`gym-node service install\` knows that.

## The daemon's own codes

| code | exit | what to do |
| --- | --- | --- |
${errors.join('\n')}

Errors of the training (\`FILE_MISSING\`, \`BAD_SAFETENSORS\`, \`BAD_DATASET\`, \`BAD_REWARD\`, ...) name the file, the line
or the number, and end with 6; \`ENGINE_DIED\` and \`NON_FINITE\` end with 7, \`BAD_CONFIG\` with 2. Errors of the ring end
with 4, but for \`BAD_ADDRESS\` and \`BAD_ARGUMENT\` (2), \`BAD_STORE\` (5) and \`LENGTH_MISMATCH\` (6).
`
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ')
}

function fallback(value: unknown): string {
  return value === undefined ? '' : `\`${JSON.stringify(value)}\``
}
