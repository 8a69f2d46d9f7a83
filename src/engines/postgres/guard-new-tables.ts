import {
  createTriggerSql,
  GUARD_SCHEMA,
  type GuardEvent,
  type GuardTrigger,
  massWriteTriggers,
  truncateTrigger,
} from './guard-objects.ts';

/** Where tools keep tables that they make to drop them. @source pg_repack, pg_squeeze: their schemas */
const SCHEMAS_OF_TOOLS = "'repack', 'squeeze'";

/**
 * Protects tables as they are made, as the record of a measure says, and as long as that is for all tables. It puts triggers
 * on a table of somebody else's, calling functions that he may not bind, so it has its maker's rights: it takes names from the
 * catalog alone, quotes them, and runs nothing that a user has written. A function that has come into the hands of somebody
 * other than a superuser is bound to his own tables only. Whatever fails is a warning: the table is made all the same.
 * @source PostgreSQL manual, "Writing SECURITY DEFINER Functions Safely"; "Event Trigger Functions"
 */
function protectNew(measure: string, triggers: readonly GuardTrigger[], counts: boolean): GuardEvent {
  const [first] = triggers;
  const called = first === undefined ? '' : first.function.name;
  const rows = "(options ->> 'rows')::bigint";
  const name = `protect_new_${measure.replace('-', '_')}`;
  const creates = triggers.map(
    trigger =>
      `      execute format(${literal(createTriggerSql(trigger, '%1$s', counts ? '%2$s' : null))}, made.quoted${counts ? `, ${rows}` : ''});`,
  );
  return {
    name: `aishell_${name}`,
    event: 'ddl_command_end',
    tags: ['CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA'],
    function: {
      name,
      takes: '',
      returns: 'event_trigger',
      definer: true,
      body: `
declare
  options jsonb;
  made record;
begin
  begin
    options := obj_description('${GUARD_SCHEMA}'::regnamespace, 'pg_namespace')::jsonb #> '{${measure},options}';
  exception when invalid_text_representation then
    null;
  end;
  if options ->> 'tables' is distinct from 'all'${counts ? " or options ->> 'rows' is null" : ''} then
    return;
  end if;
  for made in
    select format('%I.%I', n.nspname, c.relname) as quoted
    from pg_event_trigger_ddl_commands() d
    join pg_class c on c.oid = d.objid join pg_namespace n on n.oid = c.relnamespace
    join pg_proc p on p.proname = '${called}' and p.pronamespace = '${GUARD_SCHEMA}'::regnamespace
    join pg_roles o on o.oid = p.proowner
    where d.classid = 'pg_class'::regclass and d.object_type = 'table' and not d.in_extension
      and c.relkind in ('r', 'p') and c.relpersistence <> 't' and (o.rolsuper or p.proowner = c.relowner)
      and n.nspname not in ('information_schema', '${GUARD_SCHEMA}', ${SCHEMAS_OF_TOOLS}) and n.nspname !~ '^pg_'
  loop
    begin
${creates.join('\n')}
    exception when others then
      raise warning 'aishell could not protect % (${measure}): %', made.quoted, sqlerrm;
    end;
  end loop;
end
`,
    },
  };
}

function literal(text: string): string {
  return `$sql$${text}$sql$`;
}

export const protectFromMassWrites: GuardEvent = protectNew('mass-write', massWriteTriggers, true);

export const protectFromDestructiveDdl: GuardEvent = protectNew('destructive-ddl', [truncateTrigger], false);
