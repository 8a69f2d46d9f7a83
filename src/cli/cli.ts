import { type Command, InvalidArgumentError } from 'commander';
import { printable } from './render/page.ts';
import { type CommandSpec, runCommand } from './run-command.ts';
import type { GlobalFlags, Terminal } from './terminal.ts';

/** What the files in commands/ add themselves to. */
export interface Cli {
  readonly program: Command;
  /** Runs what a command does, with the global flags it was given; its exit code becomes the program's. */
  run<T>(command: Command, spec: CommandSpec<T>): Promise<void>;
}

export function createCli(program: Command, terminal: Terminal, onExitCode: (exitCode: number) => void): Cli {
  return {
    program,
    async run(command, spec) {
      onExitCode(await runCommand(terminal, command.optsWithGlobals<GlobalFlags>(), spec));
    },
  };
}

/** The examples at the end of a command's help: command, then what it does. */
export function addExamples(
  command: Command,
  examples: readonly (readonly [command: string, does: string])[],
): Command {
  const lines = examples.map(([line, does]) => `  # ${does}\n  ${line}`);
  return command.addHelpText('after', `\nExamples:\n${lines.join('\n\n')}\n`);
}

/** An option's whole number between two bounds. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return text => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}

/** An option that is a name people see again: on one line, and not too long. */
export function nameOption(text: string): string {
  if (text.trim() !== '' && text.length <= 100 && printable(text) === text) return text.trim();
  throw new InvalidArgumentError('It must be 1 to 100 characters on one line.');
}
