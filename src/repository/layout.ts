import { AppError } from '../base/errors.ts';

/** Where each kind of object lies; docs/format.md, "Objects". */
export const REPOSITORY_FILE = 'repository.json';
export const KEYS_PREFIX = 'keys/';

export const slotPath = (generation: number, slotId: string): string =>
  `${KEYS_PREFIX}${String(generation).padStart(4, '0')}/${slotId}.json`;
export const INSTANCES_PREFIX = 'instances/';
const instancePrefix = (instance: string): string => `${INSTANCES_PREFIX}${instance}/`;
export const identityPrefix = (instance: string): string => `${instancePrefix(instance)}identity/`;
export const identityPath = (instance: string, systemIdentifier: string): string =>
  `${identityPrefix(instance)}${systemIdentifier}`;
export const backupsPrefix = (instance: string): string => `${instancePrefix(instance)}backups/`;
export const manifestPath = (instance: string, backupId: string): string =>
  `${backupsPrefix(instance)}${backupId}`;
export const packsPrefix = (instance: string, backupId: string): string =>
  `${instancePrefix(instance)}packs/${backupId}/`;
export const packPath = (instance: string, backupId: string, packId: string): string =>
  `${packsPrefix(instance, backupId)}${packId}`;
export const logPrefix = (instance: string, systemIdentifier: string): string =>
  `${instancePrefix(instance)}log/${systemIdentifier}/`;

/** A timeline has a folder of its own: after a recovery the same positions come again, with other relations. */
export const catalogsPrefix = (log: {
  readonly instance: string;
  readonly systemIdentifier: string;
}): string => `${instancePrefix(log.instance)}catalogs/${log.systemIdentifier}/`;
export const catalogPath = (
  log: { readonly instance: string; readonly systemIdentifier: string },
  place: { readonly timeline: number; readonly lsn: bigint },
): string =>
  `${catalogsPrefix(log)}${place.timeline.toString(16).toUpperCase().padStart(8, '0')}/${place.lsn.toString(16).toUpperCase().padStart(16, '0')}`;

/** Beside the log: a segment's summary has its name, in a folder of its timeline too. */
export const logSummariesPrefix = (log: {
  readonly instance: string;
  readonly systemIdentifier: string;
}): string => `${instancePrefix(log.instance)}summaries/${log.systemIdentifier}/`;
export const logSummaryPath = (
  log: { readonly instance: string; readonly systemIdentifier: string },
  segment: string,
): string => `${logSummariesPrefix(log)}${segment.slice(0, 8)}/${segment}`;

/** A log file lies in the folder of its timeline: the first 8 characters of PostgreSQL's own name. */
export const logPath = (
  log: { readonly instance: string; readonly systemIdentifier: string },
  fileName: string,
): string => `${logPrefix(log.instance, log.systemIdentifier)}${fileName.slice(0, 8)}/${fileName}`;

const INSTANCE_NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;
const BACKUP_ID = /^[a-z]+_\d{8}_\d{6}_[0-9a-f]{6}$/;

/** @throws USAGE */
export function checkInstanceName(name: string): string {
  if (INSTANCE_NAME.test(name)) return name;
  throw new AppError('USAGE', `unable to use instance name '${name}'`, {
    hint: 'Use lower case letters, digits, dots, dashes and underscores, at most 63.',
  });
}

export function isBackupId(text: string): boolean {
  return BACKUP_ID.test(text);
}

/** `backup_20251027_140532_abc123`: sorts by time, and the last six characters are enough to name it. */
export function newBackupId(startedAt: Date, random: Uint8Array): string {
  const digits = startedAt.toISOString().replace(/[-:]/g, '');
  return `backup_${digits.slice(0, 8)}_${digits.slice(9, 15)}_${Buffer.from(random.subarray(0, 3)).toString('hex')}`;
}

/** Refuses a path of a manifest that could lead out of the directory it is restored into. @throws CORRUPT */
export function checkRestorePath(path: string): string {
  const segments = path.split('/');
  const harmless = segments.every(segment => segment !== '' && segment !== '.' && segment !== '..');
  if (!harmless || path.includes('\0') || path.includes('\\')) {
    throw new AppError(
      'CORRUPT',
      `refused the path '${path}' of a manifest: it could lead outside the target directory`,
    );
  }
  return path;
}

export const emergencyPrefix = (instance: string): string => `${instancePrefix(instance)}emergency/`;
/** A record of how writes were stopped: `stop_20251027_140024_abc123/0001`, or `…/resumed`. */
export const emergencyPath = (instance: string, stop: string, name: string): string =>
  `${emergencyPrefix(instance)}${stop}/${name}`;

export const incidentsPrefix = (instance: string): string => `${instancePrefix(instance)}incidents/`;
/** A state of an incident: `incident_20271027_140023_abc123/0001`. */
export const incidentPath = (instance: string, incident: string, name: string): string =>
  `${incidentsPrefix(instance)}${incident}/${name}`;
