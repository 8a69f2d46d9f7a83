import { describe, expect, it } from 'vitest';
import type { OperationEvent } from '../../src/base/events.ts';
import type { LiveArea } from '../../src/cli/render/live-area.ts';
import { createTextRenderer, type TextOptions } from '../../src/cli/render/render-text.ts';
import { styleFor } from '../../src/cli/render/style.ts';

const GB = 1e9;

function recorder(overrides: Partial<TextOptions> = {}): {
  readonly lines: string[];
  readonly clock: { ms: number };
  readonly renderer: ReturnType<typeof createTextRenderer>;
} {
  const lines: string[] = [];
  const clock = { ms: 0 };
  const renderer = createTextRenderer({
    style: styleFor(false),
    write: line => void lines.push(line),
    writeError: line => void lines.push(`! ${line}`),
    live: null,
    quiet: false,
    verbose: false,
    now: () => clock.ms,
    ...overrides,
  });
  return { lines, clock, renderer };
}

const started = (step: string, title: string): OperationEvent => ({
  type: 'step',
  step,
  title,
  state: 'started',
});
const progress = (step: string, doneBytes: number, totalBytes: number): OperationEvent => ({
  type: 'progress',
  step,
  doneBytes,
  totalBytes,
});

describe('text, not on a terminal', () => {
  it('a heading, then a result that begins with an empty line - there is one between them', () => {
    const { lines, renderer } = recorder();
    renderer.show(page => page.title('Title'));
    renderer.result(null, page => {
      page.line();
      page.line('Result');
    });
    expect(lines).toEqual(['Title', '━'.repeat(50), '', 'Result']);
  });

  it('steps - one line each, when they end, with seconds and what was found', () => {
    const { lines, renderer } = recorder();
    renderer.onEvent(started('copy', 'Data backed up'));
    renderer.onEvent({
      type: 'step',
      step: 'copy',
      title: 'Data backed up',
      state: 'done',
      seconds: 578.2,
      detail: '967 files',
    });
    renderer.onEvent({ type: 'step', step: 'log', title: 'Log archived', state: 'failed', seconds: 0.4 });
    renderer.onEvent({
      type: 'step',
      step: 'x',
      title: 'Sandbox test',
      state: 'skipped',
      detail: 'not asked for',
    });
    expect(lines).toEqual([
      '  ✓ Data backed up: 967 files (9m 38s)',
      '  ✗ Log archived: not done (0.40s)',
      '  - Sandbox test: not asked for',
    ]);
  });

  it('progress - a line every ten seconds, with speed and time left', () => {
    const { lines, clock, renderer } = recorder();
    renderer.onEvent(started('copy', 'Data backed up'));
    for (let second = 0; second <= 21; second += 1) {
      clock.ms = second * 1000;
      renderer.onEvent(progress('copy', second * 0.1 * GB, 10 * GB));
    }
    expect(lines).toEqual([
      '  … Data backed up: 10% (1.0 GB / 10.0 GB)  100 MB/s  ETA 1m 30s',
      '  … Data backed up: 20% (2.0 GB / 10.0 GB)  100 MB/s  ETA 1m 20s',
    ]);
  });

  it('progress that counts rows - their speed and time left', () => {
    const { lines, clock, renderer } = recorder();
    renderer.onEvent(started('merge', 'Rows put back'));
    for (let second = 0; second <= 11; second += 1) {
      clock.ms = second * 1000;
      const event = { type: 'progress', step: 'merge', doneBytes: 0, totalBytes: 0 } as const;
      renderer.onEvent({ ...event, done: second * 80_000, total: 1_600_000, unit: 'rows' });
    }
    expect(lines).toEqual(['  … Rows put back: 50% (800,000 / 1,600,000 rows)  80,000 rows/s  ETA 10.0s']);
  });

  it('facts without a drawing of their own - named and in their units', () => {
    const { lines, renderer } = recorder();
    renderer.onEvent({
      type: 'facts',
      topic: 'server',
      facts: { databaseSizeBytes: 45.3 * GB, rows: 3214567, name: 'a\u001b[31mb', none: null },
    });
    expect(lines).toEqual([
      '',
      'server:',
      '  Database size: 45.3 GB',
      '  Rows: 3,214,567',
      '  Name: a�[31mb',
      '',
    ]);
  });

  it('--quiet - warnings, results and errors only', () => {
    const { lines, clock, renderer } = recorder({ quiet: true });
    renderer.onEvent(started('copy', 'Data backed up'));
    clock.ms = 60_000;
    renderer.onEvent(progress('copy', 1, 2));
    renderer.onEvent({ type: 'note', level: 'info', message: 'hello' });
    renderer.onEvent({ type: 'note', level: 'warning', message: 'the disk is nearly full' });
    renderer.result({}, page => page.line('done'));
    renderer.error({ code: 'CORRUPT', message: 'object is damaged', hint: 'Look at it.' });
    expect(lines).toEqual([
      '⚠️  warning: the disk is nearly full',
      'done',
      '! error: object is damaged',
      '!   hint: Look at it.',
      '!   code: CORRUPT',
    ]);
  });

  it('a section - facts of which nothing is known are left out', () => {
    const { lines, renderer } = recorder();
    renderer.result({}, page => {
      page.title('🗄️  Backup');
      page.section('Details', [['Name', 'x'], ['Checksum', null], 'as it is']);
      page.section('Nothing', [['Name', null]]);
      page.table(['Name', 'Size'], [['a', '1 GB']]);
    });
    expect(lines.join('\n')).toMatchInlineSnapshot(`
      "🗄️  Backup
      ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━

      Details:
        Name: x
        as it is
      ┌──────┬──────┐
      │ Name │ Size │
      ├──────┼──────┤
      │ a    │ 1 GB │
      └──────┴──────┘"
    `);
  });

  it('a mistake in the program - shown with where it happened', () => {
    const { lines, renderer } = recorder();
    renderer.error({
      code: 'BUG',
      message: 'x is not a function',
      details: { stack: 'TypeError: x is not a function\n    at here (a.ts:1)' },
    });
    expect(lines).toContain('!     at here (a.ts:1)');
    expect(lines.join()).toMatch(/please report it/);
  });
});

describe('text on a terminal', () => {
  it('what goes on is drawn over, what ended stands above it', () => {
    const drawn: string[][] = [];
    const printed: string[] = [];
    const live: LiveArea = {
      draw: lines => void drawn.push([...lines]),
      print: line => void printed.push(line),
      end: () => void drawn.push(['end']),
    };
    const { lines, clock, renderer } = recorder({ live });
    renderer.onEvent(started('copy', 'Data backed up'));
    for (const ms of [50, 600, 620, 1100]) {
      clock.ms = ms;
      renderer.onEvent(progress('copy', ms * 1e6, 4 * GB));
    }
    renderer.onEvent({ type: 'step', step: 'copy', title: 'Data backed up', state: 'done', seconds: 4 });
    renderer.result({}, page => page.line('done'));
    expect(drawn).toEqual([
      ['  ⏳ Data backed up'],
      ['  ⏳ Data backed up', '  [■■■■░░░░░░░░░░░░░░░░░░░░░░░░░░] 15% (600 MB / 4.0 GB)  1.0 GB/s  ETA 3.4s'],
      ['  ⏳ Data backed up', '  [■■■■■■■■░░░░░░░░░░░░░░░░░░░░░░] 27% (1.1 GB / 4.0 GB)  1.0 GB/s  ETA 2.9s'],
      [],
      ['end'],
    ]);
    expect(printed).toEqual(['  ✓ Data backed up (4.0s)']);
    expect(lines).toEqual(['done']);
  });
});
