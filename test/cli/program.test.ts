import { spawnSync } from 'node:child_process';
import { PassThrough } from 'node:stream';
import type { Command } from 'commander';
import { describe, expect, it, vi } from 'vitest';
import { commandTree } from '../../src/cli/completion/command-tree.ts';
import { completionScript } from '../../src/cli/completion/completion-script.ts';
import { createProgram, runProgram } from '../../src/cli/program.ts';

function program(): Command {
  return createProgram(
    {
      stdin: new PassThrough(),
      stdout: new PassThrough(),
      stderr: new PassThrough(),
      env: {},
      cwd: '/',
      signal: new AbortController().signal,
    },
    () => undefined,
  );
}

const leaves = (command: Command): readonly Command[] =>
  command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);

describe('the command line', () => {
  it.each(leaves(program()).map(command => [command.name(), command] as const))(
    '%s - its help has examples and says what it does',
    (_name, command) => {
      let help = '';
      command.configureOutput({
        writeOut: text => {
          help += text;
        },
      });
      command.outputHelp();
      expect(command.description()).not.toBe('');
      expect(help).toMatch(/\nExamples:\n {2}# .+\n {2}\S/);
      expect(help).toMatch(/--config <file>/);
      for (const option of command.options) expect(option.description).not.toBe('');
    },
  );
});

describe('a group without a command', () => {
  it.each([
    [['backup', 'alert'], 'backup alert'],
    [['emergency'], 'emergency'],
    [[], '[options]'],
  ])('%j - shows its own help, and ends with 2', async (args, name) => {
    let shown = '';
    const write = vi.spyOn(process.stdout, 'write').mockImplementation(text => {
      shown += String(text);
      return true;
    });
    try {
      expect(await runProgram(args)).toBe(2);
    } finally {
      write.mockRestore();
    }
    expect(shown).toContain(`Usage: aishell ${name}`);
  });
});

describe('completion', () => {
  const tree = commandTree(program());

  /** What bash would offer for a line. */
  function complete(words: readonly string[]): readonly string[] {
    const script = `${completionScript('bash', tree)}
COMP_WORDS=(aishell "$@"); COMP_CWORD=$#; _aishell; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync('bash', ['-c', script, 'bash', ...words], { encoding: 'utf8' });
    expect(stderr).toBe('');
    return stdout.trim().split('\n');
  }

  it('bash, the first word - the groups', () => {
    expect(complete(['ba'])).toEqual(['backup']);
  });

  it('bash, after a group and options with values - its commands', () => {
    expect(complete(['--config', 'backup', 'backup', '--json', 'cr'])).toEqual(['create']);
  });

  it('bash, an option - those of the command and the global ones', () => {
    expect(complete(['backup', 'create', '--'])).toEqual(
      expect.arrayContaining(['--name', '--workers', '--json']),
    );
    expect(complete(['backup', 'list', '--wor'])).toEqual(['']);
  });

  it('bash, the value of an option - nothing of ours, so that files are offered', () => {
    expect(complete(['backup', 'create', '--config', 'x'])).toEqual(['']);
  });

  it.each(['zsh', 'fish'] as const)('%s - every command and option is in it', shell => {
    const script = completionScript(shell, tree);
    for (const node of tree) {
      for (const { name } of node.commands) expect(script).toContain(name);
      for (const { name } of node.options)
        expect(script).toContain(shell === 'fish' ? `-l ${name.slice(2)}` : name);
    }
  });
});
