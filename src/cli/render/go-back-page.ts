import { formatBytes, formatCount, formatSeconds } from '../../base/sizes.ts';
import type { GoBackReport } from '../../operations/rewind/go-back.ts';
import { type Page, printable, RULE } from './page.ts';

/** What is going to be given up, before the typed confirmation. */
export function drawGoBackWarning(
  page: Page,
  facts: Pick<GoBackReport, 'instance' | 'dataDirectory' | 'requested'> & { readonly used: boolean },
): void {
  page.title('⚠️  GOING BACK TO BEFORE A REWIND');
  page.section('What is undone', [
    ['Instance', facts.instance],
    ['Data directory', printable(facts.dataDirectory)],
    ['The rewind to', printable(facts.requested)],
  ]);
  page.line();
  if (facts.used)
    page.line(
      page.style.warn(
        '⚠️  WARNING: The present state, with everything written since the rewind, will be GIVEN UP!',
      ),
    );
}

/** What was brought back. */
export function drawWentBack(page: Page, report: GoBackReport): void {
  const { broughtBack } = report;
  page.line();
  page.line(page.style.dim(RULE));
  page.line();
  page.line(
    page.style.good(`✅ The state from before the rewind is back, in ${formatSeconds(report.seconds)}`),
  );
  page.section('Brought back', [
    ['Data directory', printable(report.dataDirectory)],
    ['Files', broughtBack === null ? null : formatCount(broughtBack.movedFiles)],
    ['Pages', broughtBack === null ? null : formatBytes(broughtBack.pagesBytes)],
    [
      'Pages from the backup',
      broughtBack === null || broughtBack.fromBackupBytes === 0
        ? null
        : formatBytes(broughtBack.fromBackupBytes),
    ],
    ['Timeline', String(report.timeline)],
    ['Given up', report.abandonedTimeline === null ? null : `timeline ${report.abandonedTimeline}`],
  ]);
  page.section('Database status', [
    report.started
      ? `${page.style.good('✓')} Database online`
      : 'The server was not running before the rewind, and was not started.',
  ]);
}
