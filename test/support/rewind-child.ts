import { openInstance } from '../../src/app/open-instance.ts';
import { readConfig } from '../../src/config/read-config.ts';
import { parseLsn } from '../../src/engines/postgres/lsn.ts';
import { decideWork } from '../../src/operations/rewind/decide-work.ts';
import { goBack } from '../../src/operations/rewind/go-back.ts';
import { findUnfinished, takeOver } from '../../src/operations/rewind/journal.ts';
import { ownerOfFiles } from '../../src/operations/rewind/places.ts';
import { binariesOf, openRewind } from '../../src/operations/rewind/resume-rewind.ts';
import { beginRewind, saveLive } from '../../src/operations/rewind/rewind.ts';
import { finishRewind } from '../../src/operations/rewind/rewind-run.ts';
import { planRewind } from './rewind-plan.ts';

/**
 * A process to be killed: begins a rewind or goes on with one, up to a recovered database on the disk that is not opened; or
 * goes back. Arguments: the configuration, what to do, and the data directory; a position to begin with.
 */
const [configFile = '', what = '', dataDirectory = '', lsn = '0/0'] = process.argv.slice(2);
const options = {
  signal: new AbortController().signal,
  onEvent: (event: { readonly type: string }) => console.log(JSON.stringify(event)),
};
const config = readConfig({ file: configFile, env: {}, cwd: '/' });
const context = await openInstance(config, { ...options, env: {}, workers: 2, toolVersion: 'test' });

if (what === 'begin') {
  const begun = await beginRewind(context, await planRewind(context, parseLsn(lsn)), options);
  await finishRewind(begun.run, begun.journal, options);
} else {
  const found = await findUnfinished(dataDirectory);
  if (found === null) throw new Error('there is nothing to go on with');
  if (what === 'resume') {
    const opened = await openRewind(context, found, options.signal);
    const binaries = await binariesOf(context, found, opened.manifest);
    const work = await decideWork(context, { ...opened, leaveSettled: false }, options.signal);
    const run = { context, ...opened, work, binaries, owner: await ownerOfFiles(dataDirectory) };
    let journal = await takeOver(found);
    if (journal.phase === 'saving') journal = await saveLive(run, journal, options);
    await finishRewind(run, journal, options);
  } else {
    await goBack({ ...context, whole: null }, found.places.safety, {
      ...options,
      confirm: async () => undefined,
    });
  }
}
console.log(JSON.stringify({ type: 'done' }));
