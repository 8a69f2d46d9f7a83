import { join } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { type OnEvent, runStep } from '../../base/events.ts';
import { createDemoSite, type DemoDeps, type DemoSite, removeDemoSite } from './demo-site.ts';
import { type DemoStory, playStory } from './play-story.ts';

export interface DemoRequest {
  /** Users to begin with, 2,000 or more. */
  readonly rows: number;
  /** Leaves the server running and everything in place. */
  readonly keep: boolean;
}

export interface DemoResult extends DemoStory {
  readonly totalSeconds: number;
  /** How to look around, with `keep`; null when everything was removed. */
  readonly kept: KeptSite | null;
}

export interface KeptSite {
  readonly directory: string;
  readonly configFile: string;
  /** The account that everything runs as, when it is not the one that ran the demo. */
  readonly account: string | null;
  /** Commands to paste, in the order of their use. */
  readonly commands: {
    readonly connect: string;
    readonly listBackups: string;
    readonly stop: string;
    readonly remove: string;
  };
}

export interface RunDemoOptions {
  readonly signal: AbortSignal;
  readonly onEvent: OnEvent;
}

/**
 * The tutorial's disaster, live: a server of its own, a shop with writers, a backup while they write, a table lost, the
 * restore in place to just before, and the proof that every row is back. Backup, archiving and restore are this
 * program's own commands, each in its own process, as a user would run them. Whatever way it ends, its server is stopped
 * and its directory removed, unless it ended well and `keep` was asked for.
 *
 * @throws VERIFICATION_FAILED a table is not what it was; PROGRAM_NOT_FOUND PostgreSQL could not be fetched; what the
 * commands throw; the signal's reason when cancelled
 */
export async function runDemo(
  deps: DemoDeps,
  request: DemoRequest,
  options: RunDemoOptions,
): Promise<DemoResult> {
  // The loss of a smaller table is no disaster that the agent would tell of.
  if (!Number.isSafeInteger(request.rows) || request.rows < 2000 || request.rows > 1e9) {
    throw new AppError('USAGE', `unable to create ${request.rows} users`, {
      hint: 'Give a whole number from 2,000 to 1,000,000,000.',
    });
  }
  const startedAt = performance.now();
  const site = await runStep(
    options.onEvent,
    {
      id: 'demo-prepare',
      title: 'Prepared a PostgreSQL server of its own',
      detail: made => `in ${made.directory}`,
    },
    () => createDemoSite(deps, options.signal),
  );
  // Whatever statement runs then ends with its server: no session has to listen for itself.
  const stopServer = (): void => void site.cluster.stop('immediate').catch(() => undefined);
  options.signal.addEventListener('abort', stopServer, { once: true });
  let story: DemoStory | null = null;
  try {
    options.signal.throwIfAborted();
    story = await playStory(site, request.rows, options);
  } catch (error) {
    options.signal.throwIfAborted();
    throw error;
  } finally {
    options.signal.removeEventListener('abort', stopServer);
    if (story === null || !request.keep) await removeDemoSite(site);
  }
  const totalSeconds = (performance.now() - startedAt) / 1000;
  return { ...story, totalSeconds, kept: request.keep ? lookAround(site) : null };
}

function lookAround(site: DemoSite): KeptSite {
  const { cluster, aishell, configFile, directory } = site;
  const { host, port, user } = cluster.connection;
  const asAccount =
    aishell.user === null
      ? ''
      : `setpriv --reuid ${aishell.user.uid} --regid ${aishell.user.gid} --clear-groups `;
  const pgCtl = join(cluster.binaries.binDirectory, 'pg_ctl');
  return {
    directory,
    configFile,
    account: aishell.user?.name ?? null,
    commands: {
      connect: `psql postgresql://${user}@${host}:${port}/shop`,
      listBackups: `cd ${directory} && ${asAccount}${aishell.launcher} backup list --config ${configFile}`,
      stop: `cd ${directory} && ${asAccount}${pgCtl} stop -D ${cluster.dataDirectory}`,
      remove: `rm -r ${directory}`,
    },
  };
}
