import { expect, it } from 'vitest';
import { maskSecrets } from '../../../../src/engines/postgres/sql/mask-secrets.ts';
import { loadSqlParser } from '../../../../src/engines/postgres/sql/sql-parser.ts';

const parser = await loadSqlParser();

it.each([
  "alter role app password 'geheim'",
  'create user app with encrypted password $x$geheim$x$',
  "ALTER ROLE app PASSWORD E'geheim'",
  "create user mapping for a server s options (user 'a', password 'geheim')",
  "create subscription s connection 'host=a password=geheim' publication p",
  "select dblink_connect('host=a user=b geheim')",
  "insert into users (name, password) values ('a', 'geheim')",
  "update users set password_hash = 'geheim' where id = 1",
  "update users set apiKey = 'geheim' where id = 1",
  `update users set "user-Passwd" = 'geheim'`,
  "select crypt('geheim', gen_salt('bf'))",
  "select pgp_sym_encrypt('x', 'geheim')",
  "select 'postgresql://a:geheim@host/db'",
  "set my.token = 'geheim'",
  'select 1 -- the password is geheim',
  'select 1 /* password: geheim */',
  "alter role app password 'geheim",
  "do $$ begin execute 'alter role a password ''geheim'''; end $$",
])('%s - keeps no secret', statement => {
  const masked = maskSecrets(parser, statement);
  expect(masked).not.toContain('geheim');
  expect(masked).toContain('[redacted');
});

it.each([
  "select 'a'",
  "delete from users where name = 'x' -- all of them",
  "insert into passengers values ('a')",
])('%s - is kept as it is', statement => {
  expect(maskSecrets(parser, statement)).toBe(statement);
});

it('what stands around a secret - is kept', () => {
  expect(maskSecrets(parser, "alter role \"ä\" password 'x' valid until 'y'")).toBe(
    "alter role \"ä\" password '[redacted]' valid until '[redacted]'",
  );
});
