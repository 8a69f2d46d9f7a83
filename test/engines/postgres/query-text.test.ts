import { expect, test } from 'vitest';
import { maskQuery, readQuery } from '../../../src/engines/postgres/query-text.ts';

test.each([
  ['DELETE FROM users WHERE 1=1', 'DELETE', 'always true'],
  ['delete from users', 'DELETE', 'none'],
  ["delete from users where 'a' = 'a'", 'DELETE', 'always true'],
  ['delete from users where true returning id', 'DELETE', 'always true'],
  ['/* a /* nested */ comment */ delete from u -- where is it?\n where id = 5', 'DELETE', 'some'],
  ['delete from users -- where id = 5', 'DELETE', 'none'],
  ['begin; delete from users; select * from y where z = 1', 'DELETE', 'none'],
  ['with gone as (delete from users) select * from gone where id = 1', 'DELETE', 'none'],
  ['update users set a = (select b from c where c.id = 1)', 'UPDATE', 'none'],
  ['UPDATE users SET a = 1 WHERE id = 7', 'UPDATE', 'some'],
  ['select * from users for update', null, null],
  ['insert into users values (1) on conflict (id) do update set a = 1', null, null],
  ["select 'delete from users'", null, null],
  ['TRUNCATE users', 'TRUNCATE', null],
  ['drop table users cascade', 'DROP TABLE', null],
])('%s - is %s, WHERE %s', (sql, statement, where) => {
  expect(readQuery(sql)).toEqual({ statement, where, isCut: false });
});

test('a text that the server has cut - whether there was a WHERE is not known', () => {
  const long = `update users set note = '${'x'.repeat(1023)}`;
  expect(readQuery(long)).toEqual({ statement: 'UPDATE', where: null, isCut: true });
});

test.each([
  ["delete from u where mail = 'a@b.c' and n > 1e5 -- secret", 'delete from u where mail = ? and n > ?'],
  [`update "my ""table""" set x = E'it\\'s', y = $1`, `update "my ""table""" set x = ?, y = $1`],
  ["update u set x = $tag$ it's secret $tag$, y = 'it''s'", 'update u set x = ?, y = ?'],
  ["update u set x = U&'\\0041', y = x'AB', z = .5", 'update u set x = ?, y = ?, z = ?'],
  ["delete from u where name = 'cut of", 'delete from u where name = ?'],
  ["delete /* 'secret' */ from u1 where a=b", 'delete from u1 where a=b'],
])('%s - nothing that could be a value is left', (sql, masked) => {
  expect(maskQuery(sql)).toBe(masked);
});
