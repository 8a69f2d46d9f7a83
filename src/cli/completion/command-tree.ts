import type { Command } from 'commander';

/** A command as completion sees it. */
export interface CommandNode {
  /** Its words after `aishell`; [] for the program itself. */
  readonly path: readonly string[];
  readonly commands: readonly Named[];
  readonly options: readonly OptionNode[];
}

interface Named {
  readonly name: string;
  readonly description: string;
}

interface OptionNode extends Named {
  readonly takesValue: boolean;
}

/** The program and every command below it, parents first. The global options stand with each. */
export function commandTree(program: Command): readonly CommandNode[] {
  const globalOptions = optionsOf(program);
  const walk = (command: Command, path: readonly string[]): readonly CommandNode[] => [
    {
      path,
      commands: visible(command).map(child => ({ name: child.name(), description: child.description() })),
      options: path.length === 0 ? globalOptions : [...optionsOf(command), ...globalOptions],
    },
    ...visible(command).flatMap(child => walk(child, [...path, child.name()])),
  ];
  return walk(program, []);
}

/** Without what the program runs for itself. */
function visible(command: Command): readonly Command[] {
  return command.createHelp().visibleCommands(command);
}

function optionsOf(command: Command): readonly OptionNode[] {
  return command.options
    .filter(option => option.long)
    .map(option => ({
      name: option.long ?? '',
      description: option.description,
      takesValue: option.required || option.optional,
    }));
}
