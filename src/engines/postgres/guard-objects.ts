/** The schema that holds everything of ours inside a database, but for the triggers and the event trigger themselves. */
export const GUARD_SCHEMA = 'aishell_guard';

/** Settings that anybody may set, and that say: what follows is meant. */
export const ALLOW_MASS_WRITE = 'aishell.allow_mass_write';
export const ALLOW_DESTRUCTIVE_DDL = 'aishell.allow_destructive_ddl';

/** A function of ours; its body is compared with what the server has. */
export interface GuardFunction {
  readonly name: string;
  /** Their types, as in a signature. */
  readonly takes: string;
  readonly returns: 'trigger' | 'event_trigger' | 'void';
  /** It runs with the rights of who has made it, and not of who makes it run; left out: it does not. */
  readonly definer?: true;
  readonly body: string;
}

/** An event trigger of ours. */
export interface GuardEvent {
  readonly name: string;
  readonly event: 'sql_drop' | 'ddl_command_end';
  /** Commands that it looks at; null: all. */
  readonly tags: readonly string[] | null;
  readonly function: GuardFunction;
}

/** A trigger of ours on a table of somebody's. */
export interface GuardTrigger {
  readonly name: string;
  readonly event: 'DELETE' | 'UPDATE' | 'TRUNCATE';
  readonly function: GuardFunction;
}

const OLD_ROWS = 'aishell_old_rows';

/**
 * An allowance is a setting of a name that the server does not know, so its value is any text, and an empty one once the
 * transaction that set it is over.
 * @source PostgreSQL manual, "Customized Options"
 */
function isOn(setting: string): string {
  return `lower(coalesce(current_setting('${setting}', true), '')) in ('on', 'true', 'yes', '1')`;
}

/**
 * Looks at one row more than is allowed, whatever was changed; only a refusal counts them all. A class of SQLSTATE that
 * begins with Z is for whoever wants one.
 * @source SQL standard, part 2, "SQLSTATE class and subclass values"
 */
const refuseMassWrite: GuardFunction = {
  name: 'refuse_mass_write',
  takes: '',
  returns: 'trigger',
  body: `
declare
  most constant bigint := tg_argv[0]::bigint;
  counted bigint;
  did constant text := case tg_op when 'DELETE' then 'deleted' else 'updated' end;
begin
  if ${isOn(ALLOW_MASS_WRITE)} then
    return null;
  end if;
  perform from ${OLD_ROWS} offset most limit 1;
  if not found then
    return null;
  end if;
  select count(*) into counted from ${OLD_ROWS};
  raise exception '% of % rows of % refused', tg_op, counted, format('%I.%I', tg_table_schema, tg_table_name)
    using errcode = 'Z0001', schema = tg_table_schema, table = tg_table_name,
      detail = format('One statement may have %s at most %s rows here. It was undone.', did, most),
      hint = 'If it is meant: BEGIN; SET LOCAL ${ALLOW_MASS_WRITE} = on; then the statement again, and COMMIT.';
end
`,
};

const refuseTruncate: GuardFunction = {
  name: 'refuse_truncate',
  takes: '',
  returns: 'trigger',
  body: `
begin
  if ${isOn(ALLOW_DESTRUCTIVE_DDL)} then
    return null;
  end if;
  raise exception 'TRUNCATE of % refused', format('%I.%I', tg_table_schema, tg_table_name)
    using errcode = 'Z0002', schema = tg_table_schema, table = tg_table_name,
      detail = 'The table is protected. Nothing was changed.',
      hint = 'If it is meant: BEGIN; SET LOCAL ${ALLOW_DESTRUCTIVE_DDL} = on; then the statement again, and COMMIT.';
end
`,
};

/**
 * Protected is what has the trigger against TRUNCATE: it is dropped together with its table, so a table that goes is known
 * by it, though the catalog has forgotten it by then. Whoever takes such a trigger away takes the protection away.
 */
const refuseDrop: GuardFunction = {
  name: 'refuse_drop',
  takes: '',
  returns: 'event_trigger',
  body: `
declare
  lost text;
begin
  if ${isOn(ALLOW_DESTRUCTIVE_DDL)} then
    return;
  end if;
  with dropped as materialized (select * from pg_event_trigger_dropped_objects())
  select what into lost
  from (
    select 1 as rank, format('the table %I.%I', d.address_names[1], d.address_names[2]) as what
    from dropped d
    where d.object_type = 'trigger' and d.address_names[3] = 'aishell_truncate'
      and exists (select from dropped t where t.object_type = 'table' and t.address_names = d.address_names[1:2])
    union all
    select 2, format('the column %I of %I.%I', d.address_names[3], d.address_names[1], d.address_names[2])
    from dropped d
    where d.object_type = 'table column'
      and exists (select from pg_trigger t where t.tgrelid = d.objid and t.tgname = 'aishell_truncate')
    union all
    select 3, format('the protection of %I.%I', d.address_names[1], d.address_names[2])
    from dropped d
    where d.object_type = 'trigger' and d.address_names[3] in ('aishell_truncate', 'aishell_mass_delete', 'aishell_mass_update')
  ) found
  order by rank, what
  limit 1;
  if lost is null then
    return;
  end if;
  raise exception '% refused: it would drop %', tg_tag, lost
    using errcode = 'Z0003',
      detail = 'The table is protected. Nothing was changed.',
      hint = 'If it is meant: BEGIN; SET LOCAL ${ALLOW_DESTRUCTIVE_DDL} = on; then the statement again, and COMMIT.';
end
`,
};

/**
 * What was done is on record in the comment of the schema: beside what it was done to, committed with it, and in a dump.
 * It is no table, as a publication FOR ALL TABLES would send its rows to subscribers that do not have it, and stop them; and
 * whoever dumps the database would need the right to read it. It holds an object for each measure.
 */
export const recordFunction: GuardFunction = {
  name: 'record',
  takes: 'text, jsonb, jsonb',
  returns: 'void',
  body: `
-- What measure, with which options (null: it is forgotten), and all that it has changed, with the values from before.
declare
  known jsonb := '{}';
begin
  begin
    known := coalesce(obj_description('${GUARD_SCHEMA}'::regnamespace, 'pg_namespace'), '{}')::jsonb;
  exception when invalid_text_representation then
    null;
  end;
  if $2 is null then
    known := known - $1;
  else
    known := known || jsonb_build_object($1, jsonb_build_object(
      'since', coalesce(known #>> array[$1, 'since'], to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
      'by', coalesce(known #>> array[$1, 'by'], session_user::text),
      'database', (select oid from pg_database where datname = current_database()),
      'options', $2, 'changes', $3));
  end if;
  execute format('comment on schema ${GUARD_SCHEMA} is %L', known);
end
`,
};

export const massWriteTriggers: readonly GuardTrigger[] = [
  { name: 'aishell_mass_delete', event: 'DELETE', function: refuseMassWrite },
  { name: 'aishell_mass_update', event: 'UPDATE', function: refuseMassWrite },
];

export const truncateTrigger: GuardTrigger = {
  name: 'aishell_truncate',
  event: 'TRUNCATE',
  function: refuseTruncate,
};

export const refuseDropEvent: GuardEvent = {
  name: 'aishell_refuse_drop',
  event: 'sql_drop',
  tags: null,
  function: refuseDrop,
};

/** Statements are complete, each with its semicolon. */
export function createFunctionSql({ name, takes, returns, definer, body }: GuardFunction): string {
  // Triggers run what they are bound to without asking for the right to: nobody needs it.
  return `create or replace function ${GUARD_SCHEMA}.${name}(${takes}) returns ${returns}
  language plpgsql security ${definer === true ? 'definer' : 'invoker'} set search_path = pg_catalog, pg_temp
as $guard$${body}$guard$;
revoke all on function ${GUARD_SCHEMA}.${name}(${takes}) from public;`;
}

export function dropFunctionSql({ name, takes }: GuardFunction): string {
  return `drop function if exists ${GUARD_SCHEMA}.${name}(${takes});`;
}

/**
 * @param table its quoted name
 * @param rows the most that one statement may change, or what stands for that in a pattern; null for a trigger that counts none
 */
export function createTriggerSql(trigger: GuardTrigger, table: string, rows: number | string | null): string {
  const counts = rows !== null;
  return `create or replace trigger ${trigger.name} ${counts ? 'after' : 'before'} ${trigger.event.toLowerCase()} on ${table}
  ${counts ? `referencing old table as ${OLD_ROWS} ` : ''}for each statement execute function ${GUARD_SCHEMA}.${trigger.function.name}(${counts ? `'${rows}'` : ''});`;
}

export function dropTriggerSql(trigger: GuardTrigger, table: string): string {
  return `drop trigger if exists ${trigger.name} on ${table};`;
}

export function createEventTriggerSql({ name, event, tags, function: called }: GuardEvent): string {
  const only = tags === null ? '' : ` when tag in (${tags.map(tag => `'${tag}'`).join(', ')})`;
  return `drop event trigger if exists ${name};
create event trigger ${name} on ${event}${only} execute function ${GUARD_SCHEMA}.${called.name}();`;
}

export function dropEventTriggerSql({ name }: GuardEvent): string {
  return `drop event trigger if exists ${name};`;
}

export const createSchemaSql = `create schema if not exists ${GUARD_SCHEMA};`;

/** Without CASCADE: what somebody else has put there keeps it. */
export const dropSchemaSql = `drop schema if exists ${GUARD_SCHEMA};`;
