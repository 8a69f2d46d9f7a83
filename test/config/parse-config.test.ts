import { describe, expect, it } from 'vitest';
import { AppError } from '../../src/base/errors.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { selectInstance } from '../../src/config/to-config.ts';

const good = `# yaml-language-server: $schema=https://example.com
version: 1
instances:
  production:
    engine: postgresql
    connection: postgresql://postgres@/postgres?host=/var/run/postgresql&port=5432
    password: env:PGPASSWORD
    service: { kind: systemd }
repository:
  storage: /var/backups/aishell
  key: { file: /etc/aishell/aishell.key }
`;

function failure(run: () => unknown): AppError {
  try {
    run();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

const mistakes = (text: string): string => failure(() => parseConfig(text, '/x/aishell.yaml')).message;

describe('parseConfig', () => {
  it('a correct file - typed, with defaults, frozen', () => {
    const config = parseConfig(good, '/x/aishell.yaml');
    expect(config.instances.get('production')).toEqual({
      name: 'production',
      engine: 'postgresql',
      connection: 'postgresql://postgres@/postgres?host=/var/run/postgresql&port=5432',
      password: 'env:PGPASSWORD',
      dataDirectory: null,
      binaries: null,
      service: { kind: 'systemd', unit: null },
      slot: null,
      recoveryTimeObjectiveSeconds: null,
      downtimeCost: null,
      watch: {
        ...{ enabled: true, policy: 'hold', rows: 100_000, share: 0.5, shareRows: 1000 },
        ...{ lostTableRows: 1000, rate: true, tables: [], roles: [], allow: [] },
        ...{ holdForMs: 3_600_000, holdLimitBytes: 20e9, showQuery: false },
      },
    });
    expect(config.repository).toEqual({
      storage: '/var/backups/aishell',
      key: { kind: 'file', path: '/etc/aishell/aishell.key' },
    });
    expect(config.backup).toEqual({ compression: 3, workers: null, type: 'full' });
    expect(config.agent).toEqual({
      spool: null,
      spoolLimitBytes: 8e9,
      archiveTimeoutSeconds: 60,
      synchronous: false,
      synchronousTimeoutSeconds: 5,
    });
    expect(Object.isFrozen(config) && Object.isFrozen(config.repository)).toBe(true);
  });

  it('the watch - of all instances, and key by key of one', () => {
    const text = good.replace(
      'engine: postgresql',
      'engine: postgresql\n    watch: { policy: cancel, allow: [{ roles: [purge], between: "22:30-04:00" }] }',
    );
    const { watch } = parseConfig(
      `${text}watch: { policy: alert, rows: 5, share: off, tables: [{ table: a.*, share: 90% }], hold_for: 2h }\n`,
      '/x',
    ).instances.get('production')!;
    expect(watch).toMatchObject({ policy: 'cancel', rows: 5, share: null, holdForMs: 7_200_000 });
    expect(watch.tables).toEqual([{ table: 'a.*', rows: null, policy: null, share: 0.9 }]);
    expect(watch.allow).toEqual([
      {
        ...{ tables: [], roles: ['purge'], applications: [] },
        between: { fromMinute: 22 * 60 + 30, toMinute: 240 },
      },
    ]);
    for (const wrong of [
      'rows: 0',
      'share: 101%',
      'allow: [{}]',
      'allow: [{ between: "24:00-1:00" }]',
      'hold_for: 0s',
    ])
      expect(mistakes(`${good}watch: { ${wrong} }\n`)).toContain('watch.');
  });

  it('the agent - sizes and lengths of time as they are written, with their limits', () => {
    const agent = (text: string): string => `${good}agent: { ${text} }\n`;
    const config = parseConfig(
      agent('spool: /s, spool_limit: 500MB, archive_timeout: 5s, synchronous: true, synchronous_timeout: 1m'),
      '/x',
    );
    expect(config.agent).toEqual({
      spool: '/s',
      spoolLimitBytes: 5e8,
      archiveTimeoutSeconds: 5,
      synchronous: true,
      synchronousTimeoutSeconds: 60,
    });
    expect(mistakes(agent('spool_limit: 99MB'))).toContain('agent.spool_limit: must be at least 100MB');
    expect(mistakes(agent('spool_limit: 8'))).toContain('agent.spool_limit');
    expect(mistakes(agent('archive_timeout: 0s'))).toContain('agent.archive_timeout: must be at least 1s');
    expect(mistakes(agent('synchronus: true'))).toContain("did you mean 'synchronous'?");
  });

  it('byte order mark and CRLF - read like any other', () => {
    expect(parseConfig(`\ufeff${good.replaceAll('\n', '\r\n')}`, '/x').instances.size).toBe(1);
  });

  it('many mistakes - every one at once, each with its line, in the order of the file', () => {
    const text = `version: 1
instances:
  production:
    engin: postgresql
    connection: postgresql://postgres:geheim@localhost/postgres
    password: hunter2
    service: { kind: sytemd }
  "Bad Name":
    engine: mysql
    connection: 5
repository:
  storage: backups
  key: {}
backup: { compression: zstd:22, workers: 2000, worker: 3 }
continuous_backup:
  enabled: true
`;
    expect(mistakes(text)).toMatchInlineSnapshot(`
      "unable to use the configuration '/x/aishell.yaml': it has 14 mistakes
        line 3: instances.production.engine: is missing
        line 4: instances.production.engin: is not a known key, did you mean 'engine'?
        line 5: instances.production.connection: must not hold a password: give it under 'password' as env:NAME, file:/PATH or command:…
        line 6: instances.production.password: a secret is given as env:NAME, file:/PATH or command:…, never as itself
        line 7: instances.production.service.kind: must be one of auto, pg_ctl, pg_ctlcluster, systemd, commands
        line 8: instances.Bad Name: a name is up to 63 lower case letters, digits, dots, dashes and underscores
        line 9: instances.Bad Name.engine: must be 'postgresql', and is 'mysql'
        line 10: instances.Bad Name.connection: must be a text, and is a number
        line 12: repository.storage: must be an absolute path or a URL
        line 13: repository.key: needs either 'file' or 'passphrase'
        line 14: backup.compression: must be zstd:1 to zstd:19, or none
        line 14: backup.worker: is not a known key, did you mean 'workers'?
        line 14: backup.workers: must not be more than 64
        line 15: continuous_backup: this version of aishell does not know this block yet"
    `);
  });

  it('a secret written out - refused without repeating it', () => {
    const message = mistakes(
      good.replace('env:PGPASSWORD', 'hunter2').replace('postgres@/', 'postgres:geheim@/'),
    );
    expect(message).not.toMatch(/hunter2|geheim/);
    expect(message).toMatch(/2 mistakes/);
  });

  it('a password among the parameters of the connection - refused', () => {
    expect(mistakes(good.replace('&port=5432', '&password=x'))).toMatch(/must not hold a password/);
  });

  it.each([
    ['', /version: is missing/],
    ['- a', /must be a group of keys, and is a list/],
    ['a: [', /line 1: /],
    ['version: 1\nversion: 1\n', /line 2: Map keys must be unique/],
    ['version: *nothing', /Unresolved alias/],
    [good.replace('version: 1', 'version: 2'), /version: must be '1', and is '2'/],
    [good.replace('file: /etc', 'file: etc'), /repository\.key\.file: must be an absolute path/],
    [good.replace('{ file: /etc/aishell/aishell.key }', '{ file: /a, passphrase: env:B }'), /needs either/],
    [
      good.replace('  production:\n', '  production: null\n  x:\n'),
      /instances\.production: must be a group of keys, and is empty/,
    ],
  ])('%j - refused', (text, message) => {
    expect(mistakes(text)).toMatch(message);
  });

  it('an alias that multiplies - refused instead of filling the memory', () => {
    const levels = Array.from(
      { length: 12 },
      (_, n) => `l${n + 1}: &l${n + 1} [${Array(10).fill(`*l${n}`).join(', ')}]`,
    );
    expect(mistakes(`l0: &l0 [x]\n${levels.join('\n')}\n`)).toMatch(/alias/i);
  });
});

describe('selectInstance', () => {
  const two = parseConfig(
    good.replace(
      'repository:',
      '  staging:\n    engine: postgresql\n    connection: postgresql://h/d\nrepository:',
    ),
    '/x',
  );

  it('only one - taken without a name', () => {
    expect(selectInstance(parseConfig(good, '/x'), undefined).name).toBe('production');
  });

  it('several and no name - asks for one', () => {
    expect(failure(() => selectInstance(two, undefined))).toMatchObject({
      code: 'USAGE',
      hint: expect.stringMatching(/production, staging/),
    });
  });

  it('a name that is nearly right - says which was meant', () => {
    expect(failure(() => selectInstance(two, 'prodution'))).toMatchObject({
      code: 'INSTANCE_NOT_FOUND',
      hint: "Did you mean 'production'?",
    });
  });
});
