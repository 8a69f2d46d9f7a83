import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connect } from '../../../src/engines/postgres/connection.ts';
import { connectionError, statementError } from '../../../src/engines/postgres/connection-errors.ts';
import { findPassword, lookUpPassword } from '../../../src/engines/postgres/connection-password.ts';
import {
  localUrl,
  parseConnectionUrl,
  resolveTarget,
} from '../../../src/engines/postgres/connection-target.ts';

test.for([
  ['postgres://', {}],
  ['postgresql://db.example', { host: 'db.example' }],
  ['postgres://me@db.example:5433/app', { host: 'db.example', port: 5433, user: 'me', database: 'app' }],
  [
    'postgres://me@/app?host=/var/run/postgresql',
    { user: 'me', database: 'app', host: '/var/run/postgresql' },
  ],
  ['postgres://%2Ftmp%2Fa%20b/x', { host: '/tmp/a b', database: 'x' }],
  ['postgres://[::1]:5433/x', { host: '::1', port: 5433, database: 'x' }],
  [
    'postgres://m%40e@h/d?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=3',
    {
      user: 'm@e',
      host: 'h',
      database: 'd',
      sslMode: 'verify-full',
      sslRootCert: '/ca.pem',
      connectTimeoutMs: 3000,
    },
  ],
] as const)('%s - is read', ([url, settings]) => {
  expect(parseConnectionUrl(url)).toEqual(settings);
});

test.for(['postgres://me:geheim@h/d', 'postgres://me:@h/d', 'postgres://h/d?password=geheim'])(
  'a password in the URL - refused without repeating it',
  url => {
    const attempt = () => parseConnectionUrl(url);
    expect(attempt).toThrow(expect.objectContaining({ code: 'SECRET_EXPOSED' }));
    expect(attempt).not.toThrow(/geheim/);
  },
);

test.for([
  'mysql://h/d',
  'postgres://h:0/d',
  'postgres://h:99999/d',
  'postgres://a,b/d',
  'postgres://h/d?sslmode=maybe',
  'postgres://h/d?nonsense=1',
  'postgres://h/%zz',
  '',
])("'%s' - refused as USAGE", url => {
  expect(() => parseConnectionUrl(url)).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

test('nothing given - the environment, then the defaults', () => {
  const env = { PGHOST: 'h', PGPORT: '6543', PGUSER: 'u', PGSSLMODE: 'require', PGCONNECT_TIMEOUT: '4' };
  expect(resolveTarget({}, env)).toMatchObject({
    host: 'h',
    port: 6543,
    user: 'u',
    database: 'u',
    sslMode: 'require',
    connectTimeoutMs: 4000,
  });
  expect(
    resolveTarget({ host: 'x', port: 1, user: 'y', database: 'z', sslMode: 'disable' }, env),
  ).toMatchObject({
    host: 'x',
    port: 1,
    user: 'y',
    database: 'z',
    sslMode: 'disable',
  });
});

test('no host - the first socket directory that has the socket, otherwise unreachable naming both', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'aishell-test-'));
  try {
    await writeFile(join(directory, '.s.PGSQL.5999'), '');
    expect(resolveTarget({ port: 5999 }, {}, ['/nowhere', directory]).host).toBe(directory);
    expect(() => resolveTarget({ port: 5998 }, {}, ['/nowhere', directory])).toThrow(
      expect.objectContaining({ code: 'DATABASE_UNREACHABLE', message: expect.stringContaining(directory) }),
    );
  } finally {
    await rm(directory, { recursive: true });
  }
});

const target = { host: 'h', port: 5432, user: 'u', database: 'd' };

test('password file - the first line that fits, with escapes', () => {
  expect(lookUpPassword('# c\nother:*:*:*:no\nh:5432:d:u:first\n*:*:*:*:second\n', target)).toBe('first');
  expect(lookUpPassword('h:5432:x:u:no\n*:*:*:u:a\\:b\\\\c:d\n', target)).toBe('a:b\\c:d');
  expect(lookUpPassword('localhost:*:*:*:socket\n', { ...target, host: '/tmp' })).toBe('socket');
  expect(lookUpPassword('h:5432:d:u\n', target)).toBeUndefined();
});

test('password file that others can read - ignored; PGPASSWORD - comes first', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'aishell-test-'));
  try {
    const env = { PGPASSFILE: join(directory, 'pgpass') };
    await writeFile(env.PGPASSFILE, '*:*:*:*:filed\n', { mode: 0o600 });
    expect(await findPassword(target, env)).toBe('filed');
    expect(await findPassword(target, { ...env, PGPASSWORD: 'set' })).toBe('set');
    await rm(env.PGPASSFILE);
    await writeFile(env.PGPASSFILE, '*:*:*:*:filed\n', { mode: 0o644 });
    expect(await findPassword(target, env)).toBeUndefined();
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('a port that answers nothing - unreachable after the timeout', async () => {
  const silent = createServer(() => undefined);
  await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve));
  const address = silent.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  try {
    const settings = { host: '127.0.0.1', port, user: 'u', connectTimeoutMs: 200 };
    await expect(connect(settings)).rejects.toMatchObject({
      code: 'DATABASE_UNREACHABLE',
      message: expect.stringContaining('no answer within 0.2 seconds'),
    });
    const signal = AbortSignal.timeout(50);
    await expect(connect({ ...settings, connectTimeoutMs: 60_000 }, { signal })).rejects.toMatchObject({
      name: 'TimeoutError',
    });
  } finally {
    silent.close();
  }
});

const full = resolveTarget({ host: 'h', user: 'u' }, {});
const raised = (code: string, message = 'words'): Error => Object.assign(new Error(message), { code });

test.for([
  ['ECONNREFUSED', 'DATABASE_UNREACHABLE'],
  ['ENOENT', 'DATABASE_UNREACHABLE'],
  ['ENOTFOUND', 'DATABASE_UNREACHABLE'],
  ['28P01', 'DATABASE_DENIED'],
  ['28000', 'DATABASE_DENIED'],
  ['57P03', 'DATABASE_UNREACHABLE'],
  ['53300', 'DATABASE_UNREACHABLE'],
  ['3D000', 'DATABASE_UNREACHABLE'],
  ['???', 'DATABASE_UNREACHABLE'],
] as const)('connecting fails with %s - %s, with a next step', ([sqlState, code]) => {
  const error = connectionError(raised(sqlState), full);
  expect(error.code).toBe(code);
  expect(error.hint).toMatch(/\w/);
});

test('a statement is refused - names the right to grant, with the user quoted', () => {
  const error = statementError(
    raised('42501', 'permission denied for function pg_backup_start'),
    'start',
    'we"ird',
  );
  expect(error.code).toBe('DATABASE_DENIED');
  expect(error.hint).toContain('GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean)');
  expect(error.hint).toContain('"we""ird"');
  expect(statementError(raised('57P01'), 'x', 'u').code).toBe('DATABASE_UNREACHABLE');
  expect(statementError(raised('57014'), 'x', 'u').code).toBe('TIMEOUT');
  expect(statementError(raised('22012'), 'x', 'u').code).toBe('DATABASE_FAILED');
});

test('the local server as the environment names it - is the same one where that environment is gone', () => {
  const env = { PGHOST: '/srv/a b', PGPORT: '5515', PGUSER: 'm@e' };
  expect(localUrl(env)).toBe('postgresql://m%40e@/postgres?host=/srv/a+b&port=5515');
  expect(resolveTarget(parseConnectionUrl(localUrl(env)), {})).toMatchObject({
    ...{ host: '/srv/a b', port: 5515, user: 'm@e', database: 'postgres' },
  });
  expect(localUrl({})).toBe('postgresql:///postgres');
});
