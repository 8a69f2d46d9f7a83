import { AppError } from '../base/errors.ts';
import { parseMoment } from '../base/moment.ts';
import { parseLsn } from '../engines/postgres/lsn.ts';
import type { RecoveryRequest } from '../operations/restore/recovery-request.ts';
import { parseDescribedChange } from '../operations/timeline/described-change.ts';

/** The options of `backup restore` that say where to go back to. */
export interface TargetOptions {
  readonly latest?: boolean;
  readonly backupId?: string;
  readonly pointInTime?: string;
  readonly lsn?: string;
  readonly xid?: string;
  readonly restorePoint?: string;
  readonly beforeIncident?: string;
  /** With `xid`: just after its commit instead of just before. */
  readonly after?: boolean;
}

/** An incident that is still to be looked up. */
export interface NamedIncident {
  readonly kind: 'named incident';
  readonly id: string;
}

/** The options that name a target, of those that were given. */
export function givenTargets(options: TargetOptions): readonly string[] {
  return [
    options.latest === true ? '--latest' : null,
    options.backupId === undefined ? null : '--backup-id',
    options.pointInTime === undefined ? null : '--point-in-time',
    options.lsn === undefined ? null : '--lsn',
    options.xid === undefined ? null : '--xid',
    options.restorePoint === undefined ? null : '--restore-point',
    options.beforeIncident === undefined ? null : '--before-incident',
  ].filter(flag => flag !== null);
}

/** Reads the one target that was given. @throws USAGE none, several, or not understood; TIME_AMBIGUOUS */
export function parseRecoveryTarget(options: TargetOptions, now: Date): RecoveryRequest | NamedIncident {
  const given = givenTargets(options);
  if (given.length !== 1) {
    const what = given.length === 0 ? 'no target was given' : `${given.join(' and ')} cannot go together`;
    throw new AppError('USAGE', `unable to plan a restore: ${what}`, {
      hint: 'Give one of --latest, --backup-id ID, --point-in-time TIME, --lsn POSITION, --xid TRANSACTION, --restore-point NAME, --before-incident ID.',
    });
  }
  if (options.after === true && options.xid === undefined) {
    throw new AppError('USAGE', 'unable to plan a restore: --after goes with --xid only');
  }
  if (options.backupId !== undefined) return { kind: 'backup', id: options.backupId };
  if (options.pointInTime !== undefined) {
    const change = parseDescribedChange(options.pointInTime);
    if (change !== null) return { kind: 'change', change };
    return { kind: 'time', timeUs: parseMoment(options.pointInTime, now) };
  }
  if (options.beforeIncident !== undefined) return { kind: 'named incident', id: options.beforeIncident };
  if (options.restorePoint !== undefined) return { kind: 'restore point', name: options.restorePoint };
  if (options.lsn !== undefined) return { kind: 'lsn', lsn: parseLsn(options.lsn) };
  if (options.xid !== undefined)
    return { kind: 'xid', xid: parseXid(options.xid), after: options.after === true };
  return { kind: 'latest' };
}

/**
 * A transaction's number: 32 bits as in the log, or with the epoch before them, as pg_current_xact_id() shows it.
 * @source PostgreSQL, access/transam.h: 0 to 2 are no transactions of users
 */
export function parseXid(text: string): number {
  const xid = /^\d{1,20}$/.test(text) ? BigInt(text) : -1n;
  const number = Number(xid & 0xffff_ffffn);
  if (xid < 0n || xid >= 1n << 64n || number < 3) {
    throw new AppError('USAGE', `unable to use the transaction '${text}'`, {
      hint: 'Give its number, as pg_current_xact_id() shows it.',
    });
  }
  return number;
}
