import { describe, expect, it } from 'vitest';
import {
  classifyPreparedQuery,
  classifyStatement,
} from '../../../../src/engines/postgres/sql/classify-statement.ts';
import {
  isProblem,
  loadSqlParser,
  type ParsedStatement,
} from '../../../../src/engines/postgres/sql/sql-parser.ts';
import type { StatementClass } from '../../../../src/engines/postgres/sql/statement-class.ts';

const parser = await loadSqlParser();

function parseOne(sql: string): ParsedStatement {
  const parsed = parser.parse(sql);
  if (isProblem(parsed)) throw new Error(`${sql}: ${parsed.message}`);
  expect(parsed, sql).toHaveLength(1);
  return parsed[0]!;
}

const classify = (sql: string): StatementClass => classifyStatement(parseOne(sql));

describe('the condition of what changes rows', () => {
  it.each([
    ['delete from t', 'none'],
    ['delete from only t', 'none'],
    ['update t set a = 1', 'none'],
    ['update t set a = s.a from s', 'none'],
    ['delete from t using s', 'none'],
    ['delete from t where true', 'useless'],
    ['delete from t where 1 = 1', 'useless'],
    ['delete from t where not false', 'useless'],
    ['delete from t where null is null', 'useless'],
    ['delete from t where id = id', 'useless'],
    ['delete from t where t.id = t.id', 'useless'],
    ['delete from t where id = 1 or true', 'useless'],
    ['delete from t where id = 1 or 1 = 1', 'useless'],
    ['delete from t where now() > now() - interval $$1 day$$', 'useless'],
    ['delete from t where exists (select 1 from s)', 'useless'],
    ['delete from t where exists (select 1 from s where s.id = 1)', 'useless'],
    ['delete from t using s where s.id = 1', 'useless'],
    ['delete from t x using s where t.id = 1', 'useless'],
    ['delete from t where random() < 0.5', 'useless'],
    ['delete from t where id = 1', 'useful'],
    ['delete from t where true and id = 1', 'useful'],
    ['delete from t where id in (1, 2)', 'useful'],
    ['delete from t where id = any (array[1])', 'useful'],
    ['delete from t where id in (select id from s)', 'useful'],
    ['delete from t where exists (select 1 from s where s.id = t.id)', 'useful'],
    ['delete from t where id between 1 and 2', 'useful'],
    ['delete from t where (a, b) in (values (1, 2))', 'useful'],
    ['delete from t where coalesce(a, 1) = 2', 'useful'],
    ['delete from t where a is null', 'useful'],
    ['delete from t where a = 1 or b = 2', 'useful'],
    ['delete from t where not a', 'useful'],
    ['delete from t where current of c', 'useful'],
    ['delete from t using s where t.id = s.id', 'useful'],
    ['delete from t x using s where x.id = s.id', 'useful'],
    ['update t set a = 1 where t.id = 1', 'useful'],
    ['update a.t set a = 1 where id = 1', 'useful'],
  ])('%s - %s', (sql, condition) => {
    const found = classify(sql);
    expect(found.kind).toBe('write');
    expect(found.changes.map(change => change.condition)).toEqual([condition]);
    expect(found.dangers.length > 0).toBe(condition !== 'useful');
  });
});

describe('what a statement is', () => {
  it.each([
    ['select * from t', 'read', 'SELECT'],
    ['table t', 'read', 'SELECT'],
    ['values (1)', 'read', 'SELECT'],
    ['with a as (select 1) select * from a', 'read', 'SELECT'],
    ['select f(1)', 'read', 'SELECT'],
    ['explain delete from t', 'read', 'EXPLAIN'],
    ['explain (analyze off) delete from t', 'read', 'EXPLAIN'],
    ['explain analyze select 1', 'read', 'EXPLAIN ANALYZE'],
    ['show all', 'read', 'SHOW'],
    ['select * from t for update', 'lock', 'SELECT'],
    ['lock table t', 'lock', 'LOCK'],
    ['declare c cursor for select 1', 'lock', 'DECLARE CURSOR'],
    ['fetch 5 from c', 'lock', 'FETCH'],
    ['notify a', 'lock', 'NOTIFY'],
    ['insert into t values (1)', 'write', 'INSERT'],
    ['insert into t select * from s on conflict do nothing', 'write', 'INSERT'],
    ['update t set a = 1 where b', 'write', 'UPDATE'],
    ['merge into t using s on t.id = s.id when matched then do nothing', 'write', 'MERGE'],
    ["copy t from '/tmp/x'", 'write', 'COPY FROM'],
    ['explain analyze update t set a = 1 where id = 1', 'write', 'EXPLAIN ANALYZE'],
    ['explain (analyze) insert into t values (1)', 'write', 'EXPLAIN ANALYZE'],
    ['with d as (delete from t where id = 1 returning *) select * from d', 'write', 'SELECT'],
    ['select * into s from t', 'definition', 'SELECT INTO'],
    ['create table s as select * from t', 'definition', 'CREATE TABLE AS'],
    ['create table s (id int)', 'definition', 'CREATE TABLE'],
    [
      'create or replace function f() returns int language sql as $$delete from t$$',
      'definition',
      'CREATE FUNCTION',
    ],
    ['create index on t (a)', 'definition', 'CREATE INDEX'],
    ['alter table t add column a int', 'definition', 'ALTER TABLE'],
    ['grant select on t to a', 'definition', 'GRANT'],
    ['revoke select on t from a', 'definition', 'REVOKE'],
    ['refresh materialized view m', 'definition', 'REFRESH MATERIALIZED VIEW'],
    ['do $$ begin end $$', 'code', 'DO'],
    ['call p()', 'code', 'CALL'],
    ['analyze t', 'maintenance', 'ANALYZE'],
    ['checkpoint', 'maintenance', 'CHECKPOINT'],
    ["set search_path = 'a'", 'setting', 'SET'],
    ['prepare p as delete from t', 'setting', 'PREPARE'],
    ['begin', 'transaction', 'BEGIN'],
    ['commit', 'transaction', 'COMMIT'],
    ['savepoint a', 'transaction', 'SAVEPOINT'],
  ])('%s - %s', (sql, kind, command) => {
    expect(classify(sql)).toMatchObject({ kind, command, dangers: [], refusal: null, outside: false });
  });
});

describe('what is asked about by its text alone', () => {
  it.each([
    ['truncate t', /TRUNCATE empties t$/],
    ['truncate a.t, s cascade', /TRUNCATE empties a\.t, s, and every table with a foreign key/],
    ['drop table a.t', /DROP TABLE a\.t/],
    ['drop schema s cascade', /DROP SCHEMA s/],
    ['drop function f(int)', /DROP FUNCTION f/],
    ['drop index i', /DROP INDEX i/],
    ['drop role r', /DROP ROLE r/],
    ['drop owned by r', /DROP OWNED r/],
    ['drop materialized view m', /DROP MATERIALIZED VIEW m/],
    ['alter table t drop column a', /drops a column .* \(a\)/],
    ['alter table t alter column a type int', /rewrites a column/],
    ['alter table t drop constraint c', /drops a constraint/],
    ['alter table t disable trigger all', /switches all triggers off/],
    ['alter table t set unlogged', /unlogged/],
    ['alter table t detach partition p', /detaches a partition/],
    ['create rule r as on delete to t do instead nothing', /rule/],
    ['alter event trigger e disable', /event trigger is switched off/],
    ['alter system set work_mem = 1', /whole server: work_mem/],
    ["copy t to '/tmp/x'", /writes the file/],
    ["copy t to program 'rm -rf /'", /runs the program/],
    ["copy t from program 'x'", /runs the program/],
    ["load 'x'", /LOAD/],
    ['delete from pg_class where oid = 1', /belongs to PostgreSQL itself/],
    ['update pg_catalog.pg_proc set proname = $$a$$ where oid = 1', /belongs to PostgreSQL itself/],
    ['with d as (delete from t returning *) select * from d', /DELETE without WHERE/],
    ['insert into s with d as (delete from t returning *) select * from d', /DELETE without WHERE/],
    ['explain analyze delete from t', /DELETE without WHERE/],
    ['merge into t using s on true when matched then delete', /ON of this MERGE/],
    [
      'merge into t using s on t.id = s.id when not matched by source then delete',
      /every row of t that its source does not have/,
    ],
    ['set aishell.allow_mass_write = on', /switches off what protects/],
    ['set session_replication_role = replica', /triggers and foreign keys/],
    ['set default_transaction_read_only = off', /may write/],
    ['set allow_system_table_mods = on', /system catalogs/],
    ["select set_config('aishell.allow_mass_write', 'on', false)", /switches off what protects/],
    ["select set_config('a' || 'b', 'on', false)", /cannot be known/],
    ['select pg_terminate_backend(1)', /acts at once/],
    ['select pg_catalog.pg_drop_replication_slot($$a$$)', /acts at once/],
    ['update t set a = dblink_exec($$x$$, $$y$$) where id = 1', /acts at once/],
    ["commit prepared 'x'", /not known here/],
    ['execute unknown', /not known here/],
    ['drop database d', /DROP DATABASE d/],
  ])('%s', (sql, danger) => {
    expect(classify(sql).dangers.join('; ')).toMatch(danger);
  });

  it('a value that protects more - is not asked about', () => {
    for (const sql of [
      'set default_transaction_read_only = on',
      'set session_replication_role = origin',
      'set aishell.allow_mass_write = off',
      'reset session_replication_role',
    ])
      expect(classify(sql).dangers, sql).toEqual([]);
  });

  it('a kind of statement that is not known - is dangerous', () => {
    const found = classifyStatement({ type: 'SomethingNewStmt', tree: {} });
    expect(found).toMatchObject({ kind: 'unknown', command: 'SomethingNew' });
    expect(found.dangers).not.toEqual([]);
  });
});

describe('what cannot be tried in a transaction', () => {
  it.each([
    'vacuum t',
    'vacuum full t',
    'reindex table concurrently t',
    'create index concurrently on t (a)',
    'drop index concurrently i',
    'create database d',
    'drop database d',
    'create tablespace s location $$/x$$',
    'alter system reset all',
    'alter table t detach partition p concurrently',
    'discard all',
  ])('%s', sql => {
    expect(classify(sql).outside).toBe(true);
  });
});

describe('what a rollback does not take back', () => {
  it.each([
    "copy t to program 'x'",
    "copy t to '/x'",
    "copy t from program 'x'",
    'select pg_reload_conf()',
    "load 'x'",
  ])('%s', sql => {
    expect(classify(sql).lasting).not.toEqual([]);
  });
});

describe('what is not sent at all', () => {
  it.each([
    'copy t from stdin',
    'copy t to stdout',
    'set standard_conforming_strings = off',
    'set client_encoding = latin1',
    "select set_config('standard_conforming_strings', 'off', false)",
    'commit and chain',
  ])('%s', sql => {
    expect(classify(sql).refusal).not.toBeNull();
  });
});

describe('what makes a read-only session writable', () => {
  it.each([
    'begin read write',
    'start transaction isolation level serializable, read write',
    'set transaction read write',
    'set session characteristics as transaction read write',
    'set transaction_read_only = off',
    'reset all',
    'discard all',
    "select set_config('transaction_read_only', 'off', false)",
  ])('%s', sql => {
    expect(classify(sql).unlocks).toBe(true);
  });

  it('begin, and begin read only - do not', () => {
    expect(classify('begin').unlocks).toBe(false);
    expect(classify('begin read only').unlocks).toBe(false);
  });
});

describe('prepared statements', () => {
  it('EXECUTE - does what was prepared', () => {
    const inner = classifyPreparedQuery(parseOne('prepare p as delete from t').tree);
    const found = classifyStatement(parseOne('execute p'), new Map([['p', inner]]));
    expect(found).toMatchObject({ kind: 'write', command: 'EXECUTE' });
    expect(found.dangers).toEqual(['DELETE without WHERE: it means every row of t']);
  });
});
