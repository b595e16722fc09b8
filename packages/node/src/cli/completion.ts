/** `gym-node completion`: a completion script for bash, zsh or fish, made from the commands themselves. */
import { Argument, Command } from 'commander'

const SHELLS = ['bash', 'zsh', 'fish'] as const

/** Words that may follow a command path such as `delta verify`. */
interface Words {
  readonly path: string
  readonly words: readonly string[]
}

/** The command; `program` is asked for its commands when it runs. */
export function completionCommand(program: () => Command): Command {
  return new Command('completion')
    .description('print a completion script: source it in your shell profile')
    .addArgument(new Argument('<shell>', 'your shell').choices(SHELLS))
    .addHelpText('after', '\nExample:\n  gym-node completion bash > /etc/bash_completion.d/gym-node\n')
    .action((shell: (typeof SHELLS)[number]) => {
      process.stdout.write(completionScript(shell, wordsOf(program(), '')))
    })
}

/** The script for a shell. Pure. */
export function completionScript(shell: (typeof SHELLS)[number], all: readonly Words[]): string {
  switch (shell) {
    case 'bash':
    case 'zsh': {
      const cases = all.map(({ path, words }) => `    "${path}") words="${words.join(' ')}" ;;`).join('\n')
      const load = shell === 'zsh' ? 'autoload -U +X bashcompinit && bashcompinit\n' : ''
      return `${load}_gym_node() {
  local current="\${COMP_WORDS[COMP_CWORD]}" path="" word words=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) break ;; *) path="\${path:+$path }$word" ;; esac
  done
  case "$path" in
${cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [ \${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- "$current"))
}
complete -o filenames -F _gym_node gym-node
`
    }
    case 'fish':
      return all
        .flatMap(({ path, words }) => {
          const seen =
            path === ''
              ? '__fish_use_subcommand'
              : `__fish_seen_subcommand_from ${path.split(' ').at(-1) ?? ''}`
          return words.map((word) =>
            word.startsWith('--')
              ? `complete -c gym-node -n '${seen}' -l ${word.slice(2)}`
              : `complete -c gym-node -n '${seen}' -a ${word}`,
          )
        })
        .join('\n')
        .concat('\n')
  }
}

function wordsOf(command: Command, path: string): Words[] {
  const options = command.options.flatMap(({ long }) => (long == null ? [] : [long]))
  const words = [...command.commands.map((child) => child.name()), ...options, '--help']
  return [
    { path, words },
    ...command.commands.flatMap((child) =>
      wordsOf(child, path === '' ? child.name() : `${path} ${child.name()}`),
    ),
  ]
}
