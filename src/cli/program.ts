import { Command, CommanderError } from 'commander';
import { AppError, toErrorRecord } from '../base/errors.ts';
import { createCli } from './cli.ts';
import { addAgentHold } from './commands/agent-hold.ts';
import { addAgentRun } from './commands/agent-run.ts';
import { addAgentStatus } from './commands/agent-status.ts';
import { addBackupAlert } from './commands/backup-alert.ts';
import { addBackupAnalyze } from './commands/backup-analyze.ts';
import { addBackupCreate } from './commands/backup-create.ts';
import { addBackupHealth } from './commands/backup-health.ts';
import { addBackupInit } from './commands/backup-init.ts';
import { addBackupList } from './commands/backup-list.ts';
import { addBackupLost } from './commands/backup-lost.ts';
import { addBackupRestore } from './commands/backup-restore.ts';
import { addBackupShow } from './commands/backup-show.ts';
import { addBackupTimeline } from './commands/backup-timeline.ts';
import { addBackupUndo } from './commands/backup-undo.ts';
import { addBackupVerify } from './commands/backup-verify.ts';
import { addBackupWal } from './commands/backup-wal.ts';
import { addCompletion } from './commands/completion.ts';
import { addDemo } from './commands/demo.ts';
import { addDoctor } from './commands/doctor.ts';
import { addEmergencyResume } from './commands/emergency-resume.ts';
import { addEmergencyStatus } from './commands/emergency-status.ts';
import { addEmergencyStop } from './commands/emergency-stop.ts';
import { addIncidentList } from './commands/incident-list.ts';
import { addIncidentResolve } from './commands/incident-resolve.ts';
import { addIncidentShow } from './commands/incident-show.ts';
import { addSecurityHarden } from './commands/security-harden.ts';
import { addSecurityStatus } from './commands/security-status.ts';
import { addSql } from './commands/sql.ts';
import { createRenderer } from './run-command.ts';
import type { GlobalFlags, Terminal } from './terminal.ts';
import { programVersion } from './version.ts';

/** The whole command line, for running, for help and for completion. */
export function createProgram(terminal: Terminal, onExitCode: (exitCode: number) => void): Command {
  const program = new Command('aishell')
    .description('Disaster recovery for databases: verified, encrypted backups, and a lost table back.')
    .version(programVersion(), '-V, --version', 'show the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand(false)
    .option(
      '--config <file>',
      'the configuration to use (default: AISHELL_CONFIG, ./aishell.yaml, ~/.config/aishell, /etc/aishell)',
    )
    .option('--instance <name>', 'which instance, when the configuration has several')
    .option('--json', 'one JSON object per line instead of text')
    .option('--no-color', 'no colours')
    .option('--quiet', 'only results, warnings and errors')
    .option('--verbose', 'also say when a step starts')
    .option('--yes', 'do not ask the last question')
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .exitOverride()
    // Its errors come back as exceptions and are shown like every other.
    .configureOutput({
      writeOut: text => void terminal.stdout.write(text),
      writeErr: () => undefined,
      getOutHelpWidth: () => terminal.stdout.columns ?? 100,
      getOutHasColors: () => false,
    });
  const cli = createCli(program, terminal, onExitCode);
  const backup = program
    .command('backup')
    .description('make backups, look at them, restore them')
    .helpCommand(false);
  addBackupInit(cli, backup);
  addBackupCreate(cli, backup);
  addBackupList(cli, backup);
  addBackupShow(cli, backup);
  addBackupHealth(cli, backup);
  addBackupVerify(cli, backup);
  addBackupTimeline(cli, backup);
  addBackupRestore(cli, backup);
  addBackupAnalyze(cli, backup);
  addBackupLost(cli, backup);
  addBackupUndo(cli, backup);
  addBackupAlert(cli, backup);
  addBackupWal(cli, backup);
  const agent = program
    .command('agent')
    .description("the process that streams a server's log")
    .helpCommand(false);
  addAgentRun(cli, agent);
  addAgentHold(cli, agent);
  addAgentStatus(cli, agent);
  const emergency = program
    .command('emergency')
    .description('stop writes while a disaster unfolds, and let them in again')
    .helpCommand(false);
  addEmergencyStop(cli, emergency);
  addEmergencyResume(cli, emergency);
  addEmergencyStatus(cli, emergency);
  const security = program
    .command('security')
    .description('measures that make the next accident less likely')
    .helpCommand(false);
  addSecurityHarden(cli, security);
  addSecurityStatus(cli, security);
  addSql(cli);
  const incident = program
    .command('incident')
    .description('disasters that the agent has noticed, and what is held for them')
    .helpCommand(false);
  addIncidentList(cli, incident);
  addIncidentShow(cli, incident);
  addIncidentResolve(cli, incident);
  addDoctor(cli);
  addDemo(cli);
  addCompletion(cli);
  return program;
}

/** Runs the command line to its exit code. */
export async function runProgram(args: readonly string[]): Promise<number> {
  const terminal = openTerminal();
  let exitCode = 0;
  const program = createProgram(terminal, code => {
    exitCode = code;
  });
  try {
    await program.parseAsync([...args], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const shown = error instanceof CommanderError ? usageError(program, error, args) : error;
    if (shown === null) return 2;
    const flags: GlobalFlags = { json: args.includes('--json'), color: !args.includes('--no-color') };
    (await createRenderer(terminal, flags)).error(toErrorRecord(shown));
    return shown instanceof AppError ? shown.exitCode : 70;
  }
}

/** Commander's complaint in our words; null when it is only that a group was called without a command: help was shown. */
function usageError(program: Command, error: CommanderError, args: readonly string[]): AppError | null {
  if (error.code === 'commander.help') {
    commandOf(program, args).outputHelp();
    return null;
  }
  const [first = '', ...more] = error.message.replace(/^error: /, '').split('\n');
  const suggestion = more.join(' ').replace(/^\(|\)$/g, '');
  const help = `Run 'aishell ${[...commandWords(program, args), '--help'].join(' ')}' to see what is accepted.`;
  return new AppError('USAGE', `unable to read the command line: ${first.replace(/\.$/, '')}`, {
    hint: suggestion === '' ? help : suggestion,
  });
}

/** The command or group that the arguments name. */
function commandOf(program: Command, args: readonly string[]): Command {
  return args.reduce<Command>(
    (at, arg) => at.commands.find(command => command.name() === arg) ?? at,
    program,
  );
}

/** Its words, without the program's own. */
function commandWords(program: Command, args: readonly string[]): readonly string[] {
  const words: string[] = [];
  for (let at: Command | null = commandOf(program, args); at !== null && at !== program; at = at.parent)
    words.unshift(at.name());
  return words;
}

/** The process's own terminal. The first Ctrl-C or SIGTERM asks the work to stop, the second does not ask. */
function openTerminal(): Terminal {
  const stop = new AbortController();
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(130);
    stop.abort(new DOMException('cancelled', 'AbortError'));
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  for (const output of [process.stdout, process.stderr]) {
    // Whoever read the output is gone (`| head`): the work itself goes on to its end.
    output.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    signal: stop.signal,
  };
}
