import { expect, test } from 'vitest';
import { runCommand } from '../../../src/base/run-command.ts';
import { parseClusterList } from '../../../src/engines/postgres/service-debian.ts';
import { shellQuote } from '../../../src/engines/postgres/service-process.ts';
import { unitForDirectory, unitOfCgroup } from '../../../src/engines/postgres/service-systemd.ts';

test('control groups - the unit of the system, not of a login or of a user', () => {
  expect(unitOfCgroup('0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n')).toBe(
    'postgresql@15-main.service',
  );
  expect(unitOfCgroup('11:memory:/x\n1:name=systemd:/system.slice/postgresql-16.service\n')).toBe(
    'postgresql-16.service',
  );
  expect(unitOfCgroup('0::/user.slice/user-1000.slice/session-3.scope\n')).toBeNull();
  expect(unitOfCgroup('0::/user.slice/user-1000.slice/user@1000.service/app.slice/pg.service\n')).toBeNull();
  expect(unitOfCgroup('0::/system.slice/docker-abc.scope\n')).toBeNull();
  expect(unitOfCgroup('0::/\n')).toBeNull();
});

test('a stopped server - its unit by the directory it names', () => {
  const shown = [
    'Id=postgresql-15.service\nEnvironment=PGDATA=/var/lib/pgsql/15/data/ PG_OOM=1\nExecStart={ path=/usr/pgsql-15/bin/postmaster ; argv[]=/usr/pgsql-15/bin/postmaster -D $PGDATA ; }',
    'Id=other.service\nEnvironment=\nExecStart={ path=/bin/postgres ; argv[]=/bin/postgres -D /srv/data2 ; ignore_errors=no }',
  ].join('\n\n');
  expect(unitForDirectory(shown, '/var/lib/pgsql/15/data')).toBe('postgresql-15.service');
  expect(unitForDirectory(shown, '/srv/data2/')).toBe('other.service');
  expect(unitForDirectory(shown, '/srv/data')).toBeNull();
  expect(unitForDirectory(shown, '/var/lib/pgsql/15')).toBeNull();
});

test('the list of Debian clusters - with a space in a directory', () => {
  const text =
    '15 main 5432 down   postgres /var/lib/postgresql/15/main /var/log/postgresql/15.log\n17  b  5433 online,recovery own /srv/my data  /var/l.log\n\nnonsense\n';
  expect(parseClusterList(text)).toEqual([
    {
      version: '15',
      name: 'main',
      owner: 'postgres',
      dataDirectory: '/var/lib/postgresql/15/main',
      logFile: '/var/log/postgresql/15.log',
    },
    { version: '17', name: 'b', owner: 'own', dataDirectory: '/srv/my data', logFile: '/var/l.log' },
  ]);
});

test('quoted for the shell - arrives as it was', async () => {
  const odd = [`it's "$HOME"`, 'a b', '', 'plain', '-c', 'x=`id`', '\\n\n'];
  const { stdout } = await runCommand(['/bin/sh', '-c', `printf '%s\\0' ${odd.map(shellQuote).join(' ')}`]);
  expect(stdout.split('\0').slice(0, -1)).toEqual(odd);
});
