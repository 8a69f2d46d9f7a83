import { describe, expect, it } from 'vitest';
import { createPage } from '../../src/cli/render/page.ts';
import { styleFor } from '../../src/cli/render/style.ts';
import { wrapLine } from '../../src/cli/render/wrap.ts';

describe('lines longer than the terminal', () => {
  it('no terminal, or room enough - the line stays as it is', () => {
    const line = `  ✓ Recovery planned: ${'x '.repeat(60)}`;
    expect(wrapLine(line, null)).toEqual([line]);
    expect(wrapLine(line, 200)).toEqual([line]);
  });

  it('a mark - what is broken goes on behind it', () => {
    const line = '  ✓ Recovery planned: from backup_20261130_164807_02d511, 11 files of the log (0.23s)';
    expect(wrapLine(line, 80)).toEqual([
      '  ✓ Recovery planned: from backup_20261130_164807_02d511, 11 files of the log',
      '    (0.23s)',
    ]);
  });

  it('columns - what is broken stays in the last of them', () => {
    const line =
      '  OK      storage         local disk (/backups), writes are kept and never overwritten, 44 GB';
    expect(wrapLine(line, 80)).toEqual([
      '  OK      storage         local disk (/backups), writes are kept and never',
      '                          overwritten, 44 GB',
    ]);
  });

  it('a command - is never cut, so that it can be copied', () => {
    const command =
      'aishell backup restore --go-back /var/lib/postgresql/main.aishell-safety-20261130_165420';
    expect(wrapLine(`  To go back: ${command}`, 80)).toEqual(['  To go back:', `    ${command}`]);
    expect(wrapLine(`  $ ${command}`, 80)).toEqual([`  $ ${command}`]);
    expect(wrapLine(`    \u001b[1m${command}\u001b[22m`, 80)).toEqual([`    \u001b[1m${command}\u001b[22m`]);
  });

  it('quotes - what stands in them is never cut; an apostrophe is none', () => {
    const quoted = "'/opt/aishell/bin/aishell --config /etc/aishell/aishell.yaml backup wal-archive %p'";
    expect(wrapLine(`  ALTER SYSTEM SET archive_command = ${quoted};`, 80)).toEqual([
      '  ALTER SYSTEM SET archive_command =',
      `    ${quoted};`,
    ]);
    expect(wrapLine("the server's own log and the users' rows are what it is all about", 40)).toEqual([
      "the server's own log and the users' rows",
      '  are what it is all about',
    ]);
  });

  it('a text of several lines - each for itself', () => {
    const first = 'CORRUPT: a pack is missing';
    expect(wrapLine(`${first}\n      affects: ${'x '.repeat(20)}`, 45)).toEqual([
      first,
      `      affects: ${'x '.repeat(14)}x`,
      '        x x x x x',
    ]);
  });

  it('colours - take no room', () => {
    const line = `  \u001b[32m✓\u001b[39m Database set to read-only mode \u001b[2m(0.02s)\u001b[22m`;
    expect(wrapLine(line, 43)).toEqual([line]);
  });
});

describe('a table', () => {
  const head = ['Name', 'ID', 'Status'];
  const rows = [
    ['monday', 'backup_20261130_164805_790e13', 'valid'],
    ['sunday', 'backup_20261129_164805_02d511', 'valid'],
  ];
  const drawn = (columns: number | null): string[] => {
    const lines: string[] = [];
    createPage(styleFor(false), line => lines.push(line), columns).table(head, rows);
    return lines;
  };

  it('room enough - one line below its head, and none between its rows', () => {
    expect(drawn(80)).toEqual([
      '┌────────┬───────────────────────────────┬────────┐',
      '│ Name   │ ID                            │ Status │',
      '├────────┼───────────────────────────────┼────────┤',
      '│ monday │ backup_20261130_164805_790e13 │ valid  │',
      '│ sunday │ backup_20261129_164805_02d511 │ valid  │',
      '└────────┴───────────────────────────────┴────────┘',
    ]);
    expect(drawn(null)).toEqual(drawn(80));
  });

  it('a narrow terminal - each row is a block', () => {
    expect(drawn(44)).toEqual([
      'monday',
      '  ID: backup_20261130_164805_790e13,',
      '  Status: valid',
      'sunday',
      '  ID: backup_20261129_164805_02d511,',
      '  Status: valid',
    ]);
  });
});
