import type { Command } from 'commander';
import type { Cli } from '../cli.ts';
import { addAlertConfigure } from './backup-alert-configure.ts';
import { addAlertList } from './backup-alert-list.ts';
import { addAlertTest } from './backup-alert-test.ts';

/** `aishell backup alert …` */
export function addBackupAlert(cli: Cli, group: Command): void {
  const alert = group.command('alert').description('who is told when something is wrong').helpCommand(false);
  addAlertConfigure(cli, alert);
  addAlertTest(cli, alert);
  addAlertList(cli, alert);
}
