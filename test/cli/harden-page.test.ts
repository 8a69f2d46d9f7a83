import { expect, it } from 'vitest';
import { drawHardenScript } from '../../src/cli/render/harden-page.ts';
import { createPage } from '../../src/cli/render/page.ts';
import { styleFor } from '../../src/cli/render/style.ts';
import type { HardenReport } from '../../src/operations/harden/harden.ts';

const evil = 'x\ndrop table users;\u001b[2J';

function linesOf(report: HardenReport, columns: number | null = null): string[] {
  const lines: string[] = [];
  drawHardenScript(
    createPage(styleFor(false), line => lines.push(line), columns),
    report,
  );
  return lines;
}

it('names that carry SQL and steer terminals - stay in their comments, and the SQL is the units’ own', () => {
  const texts = {
    choices: evil,
    prevents: evil,
    costs: evil,
    limits: [evil],
    missing: [evil],
    blocked: evil,
    notes: [evil],
  };
  const report: HardenReport = {
    ...{ action: 'apply', dryRun: true, instance: 'shop', database: evil, serverVersion: evil },
    measures: [
      { name: 'mass-write', title: 'a title', state: 'partly', since: null, by: null, ...texts },
      {
        name: 'audit-logging',
        title: 'a title',
        state: 'in force',
        since: '2026-11-28T09:57:28Z',
        by: evil,
        ...texts,
      },
      { name: 'read-only-role', title: 'a title', state: 'not possible', since: null, by: null, ...texts },
    ],
    units: [
      {
        ...{ title: evil.replace('\n', ' '), measures: ['mass-write'], table: 't', needsAll: false },
        ...{ sql: 'begin;\nselect 1;\ncommit;', outcome: 'planned', why: null },
      },
    ],
    recommendations: [{ text: evil, sql: evil }],
    notes: [evil],
    problems: [evil],
  };
  const lines = linesOf(report);
  // Nor does a narrow terminal break a comment: what is behind the break would be run.
  expect(linesOf(report, 50)).toEqual(lines);
  expect(lines.filter(line => !line.startsWith('--'))).toEqual(['begin;', 'select 1;', 'commit;', '']);
  expect(lines.join('\n')).not.toContain('\u001b');
  expect(lines.join('\n')).not.toContain('shown as �');
});
