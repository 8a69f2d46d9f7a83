import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { InitResult } from '../../app/init-instance.ts';
import { addExamples, type Cli } from '../cli.ts';
import { programFile } from '../program-files.ts';
import { type Page, RULE } from '../render/page.ts';
import { programVersion } from '../version.ts';

interface InitOptions {
  readonly storage?: string;
  readonly name?: string;
  readonly password?: string;
  readonly passphrase?: string;
}

/** `aishell backup init [URL]` */
export function addBackupInit(cli: Cli, group: Command): void {
  const command = group
    .command('init')
    .description('create the repository, its keys and the configuration')
    .argument(
      '[url]',
      'the server, as postgresql://user@host:port/database without a password (default: the local one)',
    )
    .option(
      '--storage <location>',
      'where to keep the backups: an absolute path (default: /var/backups/aishell as root)',
    )
    .option('--name <instance>', 'how this instance is called (default: production)')
    .option('--password <secret>', "the server's password, as env:NAME, file:/PATH or command:…")
    .option(
      '--passphrase <secret>',
      'a passphrase of yours instead of a key file, as env:NAME, file:/PATH or command:…',
    );
  addExamples(command, [
    ['aishell backup init', 'protect the local server'],
    [
      'aishell backup init postgresql://postgres@db:5432/postgres --password env:PGPASSWORD',
      'one that wants a password',
    ],
    ['aishell backup init --storage /mnt/backups --name staging', 'another place and name'],
  ]).action((url: string | undefined, options: InitOptions) =>
    cli.run(command, {
      title: '🗄️  Setting Up Backups',
      async run({ terminal, flags, signal, onEvent }) {
        const { initInstance } = await import('../../app/init-instance.ts');
        const file = flags.config ?? (terminal.env.AISHELL_CONFIG || undefined);
        const request = {
          url: url ?? null,
          storage: options.storage ?? null,
          name: options.name ?? flags.instance ?? null,
          configFile: file === undefined ? null : resolve(terminal.cwd, file),
          password: options.password ?? null,
          passphrase: options.passphrase ?? null,
          programPath: programFile('bin/aishell'),
          schemaPath: programFile('docs/aishell.schema.json'),
          env: terminal.env,
        };
        return { ...(await initInstance(request, { signal, onEvent })), toolVersion: programVersion() };
      },
      draw: drawInit,
    }),
  );
}

function drawInit(page: Page, result: InitResult): void {
  page.line();
  page.line(page.style.dim(RULE));
  page.line();
  page.line(page.style.good(`✅ Instance '${result.instance}' is set up`));
  page.section('Files', [
    ['Configuration', result.configFile],
    ['Key file', result.keyFile],
    ['Repository', `${result.storage}${result.repositoryCreated ? '' : ' (was there already)'}`],
  ]);
  if (result.recoveryPassphrase !== null) drawRecoveryKit(page, result, result.recoveryPassphrase);
  drawArchiving(page, result);
  page.section('Next', [
    'aishell doctor          # is everything as it must be?',
    'aishell backup create   # the first backup',
  ]);
}

function drawRecoveryKit(page: Page, result: InitResult, passphrase: string): void {
  page.section('Recovery kit', [
    page.style.warn('Keep this away from this machine: it is shown once, and stored nowhere.'),
    page.style.warn('Without it and without the key file nobody reads the backups, not even you.'),
    ['Repository', result.repositoryId],
    ['Location', result.storage],
    ['Passphrase', page.style.title(passphrase)],
  ]);
}

function drawArchiving(page: Page, result: InitResult): void {
  if (result.archiving === 'on') {
    page.section('Log archiving', [
      `${page.style.good('✓')} The server archives its log through aishell already.`,
    ]);
    return;
  }
  const why =
    result.archiving === 'off'
      ? 'The server keeps no archive of its log. To be able to restore to any second, run as a superuser:'
      : 'The server does not archive its log with aishell. To be able to restore to any second, run as a superuser:';
  page.section('Log archiving', [
    why,
    '',
    ...result.archiveSql.map(statement => `${statement};`),
    ...(result.restartNeeded ? ['', 'Then restart the server once.'] : []),
  ]);
}
