import { Argument } from 'commander';
import { addExamples, type Cli } from '../cli.ts';
import { commandTree } from '../completion/command-tree.ts';
import { completionScript, type Shell, shells } from '../completion/completion-script.ts';

/** `aishell completion bash|zsh|fish` */
export function addCompletion(cli: Cli): void {
  const command = cli.program
    .command('completion')
    .description('print the completion of a shell')
    .addArgument(new Argument('<shell>', 'the shell').choices([...shells]));
  addExamples(command, [
    ['source <(aishell completion bash)', 'in this bash, until it ends'],
    ['aishell completion bash > /etc/bash_completion.d/aishell', 'in every bash'],
    ['aishell completion zsh > "${fpath[1]}/_aishell"', 'zsh'],
    ['aishell completion fish > ~/.config/fish/completions/aishell.fish', 'fish'],
  ]).action((shell: Shell) =>
    cli.run(command, {
      run: async () => ({ shell, script: completionScript(shell, commandTree(cli.program)) }),
      draw: (page, { script }) => page.line(script.trimEnd()),
    }),
  );
}
