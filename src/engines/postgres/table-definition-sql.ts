/** Of the table $1: its name as SQL takes it, to be used in the parts below. */
const named = `
  with c as (
    select c.*, format('%I.%I', n.nspname, c.relname) as self, n.nspname as schema,
           pg_get_userbyid(c.relowner) as owner, pg_get_userbyid(n.nspowner) as "schemaOwner"
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1::int8::oid)`;

/** What statements would not make the same: each row a reason. */
export const refusalSql = `${named}
  select 'it is no ordinary table' as why from c where relkind not in ('r', 'p') or reloftype <> 0
  union all select 'it inherits from another table, or others from it' from c
    where not relispartition and relkind = 'r' and exists (select from pg_inherits i where c.oid in (i.inhrelid, i.inhparent))
  union all select 'it is kept by the access method ' || am.amname from c join pg_am am on am.oid = c.relam
    where am.amname <> 'heap'
  union all select 'it is unlogged, so its rows are in no backup' from c where relpersistence <> 'p'`;

/** What went with the table and is no part of it. */
export const lostSql = `${named}
  select distinct format('%s %I.%I', case v.relkind when 'm' then 'materialized view' else 'view' end, n.nspname, v.relname)
    as what
  from c join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid
              and d.classid = 'pg_rewrite'::regclass
    join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class and v.oid <> c.oid
    join pg_namespace n on n.oid = v.relnamespace
  union all select format('membership in publication %I', p.pubname)
  from c join pg_publication_rel pr on pr.prrelid = c.oid join pg_publication p on p.oid = pr.prpubid`;

const sequenceOptions = `format('start with %s increment by %s minvalue %s maxvalue %s cache %s %s',
  q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, case when q.seqcycle then 'cycle' else 'no cycle' end)`;

/** Sequences that belong to a column: `a` those of serial, `i` those of an identity. */
const ownSequences = (kind: 'a' | 'i'): string => `
  c join pg_depend d on d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
              and d.refobjid = c.oid and d.refobjsubid > 0 and d.deptype = '${kind}'
    join pg_class s on s.oid = d.objid and s.relkind = 'S' join pg_namespace sn on sn.oid = s.relnamespace
    join pg_sequence q on q.seqrelid = s.oid
    join pg_attribute sa on sa.attrelid = c.oid and sa.attnum = d.refobjsubid`;

const lastValues = (kind: 'a' | 'i'): string => `
    select 'filled', 10, s.relname, format('select setval(%L, %s)', format('%I.%I', sn.nspname, s.relname),
             pg_sequence_last_value(q.seqrelid))
      from ${ownSequences(kind)} where pg_sequence_last_value(q.seqrelid) is not null`;

const columnText = `
  format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
  || case when a.attcollation <> 0 and a.attcollation <> t.typcollation then
       (select format(' collate %I.%I', con.nspname, co.collname) from pg_collation co
          join pg_namespace con on con.oid = co.collnamespace where co.oid = a.attcollation) else '' end
  || case when a.attgenerated <> '' then format(' generated always as (%s) %s', pg_get_expr(e.adbin, e.adrelid),
            case a.attgenerated when 's' then 'stored' else 'virtual' end)
          -- From version 17 on a partition has the identity of the whole, from when it is one again.
          when a.attidentity <> '' then coalesce((
            select format(' generated %s as identity (sequence name %I.%I %s)',
                     case a.attidentity when 'a' then 'always' else 'by default' end, sn.nspname, s.relname, ${sequenceOptions})
            from ${ownSequences('i')} where sa.attnum = a.attnum), '')
          when e.adbin is not null then ' default ' || pg_get_expr(e.adbin, e.adrelid) else '' end
  || case when a.attnotnull then ' not null' else '' end`;

/** \`phase\`, \`text\`: every statement, in order. */
export const definitionSql = `${named},
  columns as (
    select string_agg(${columnText}, ', ' order by a.attnum) as list
    from c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      join pg_type t on t.oid = a.atttypid left join pg_attrdef e on e.adrelid = c.oid and e.adnum = a.attnum),
  statements(phase, step, part, text) as (
    select 'table', 10, '', format('create schema if not exists %I authorization %I', schema, "schemaOwner") from c
    union all
    select 'table', 20, s.relname, format('create sequence %I.%I as %s %s', sn.nspname, s.relname,
             format_type(q.seqtypid, null), ${sequenceOptions}) from ${ownSequences('a')}
    union all
    select 'table', 30, '', format('create table %s (%s)%s%s%s', self, columns.list,
             case when relkind = 'p' then ' partition by ' || pg_get_partkeydef(c.oid) end,
             (select ' with (' || string_agg(format('%s = %L', option_name, option_value), ', ') || ')'
                from pg_options_to_table(c.reloptions)),
             (select format(' tablespace %I', spcname) from pg_tablespace where oid = c.reltablespace))
      from c, columns
    union all
    select 'table', 40, a.attname, format('alter table %s alter column %I set storage %s', self, a.attname,
             case a.attstorage when 'p' then 'plain' when 'e' then 'external' when 'm' then 'main' else 'extended' end)
      from c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        join pg_type t on t.oid = a.atttypid where a.attstorage <> t.typstorage
    union all
    select 'table', 41, a.attname, format('alter table %s alter column %I set compression %s', self, a.attname,
             case a.attcompression when 'l' then 'lz4' else 'pglz' end)
      from c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where a.attcompression <> ''
    union all
    select 'table', 50, s.relname, format('alter sequence %I.%I owned by %s.%I', sn.nspname, s.relname, self, sa.attname)
      from ${ownSequences('a')}
    union all
    ${lastValues('a')} union all ${lastValues('i')}
    union all
    select 'filled', 20, k.conname, format('alter table %s add constraint %I %s', self, k.conname,
             pg_get_constraintdef(k.oid))
      from c join pg_constraint k on k.conrelid = c.oid where k.contype in ('p', 'u', 'x')
    union all
    select 'filled', 30, i.relname, pg_get_indexdef(x.indexrelid)
      from c join pg_index x on x.indrelid = c.oid join pg_class i on i.oid = x.indexrelid
      where x.indisvalid and not exists (select from pg_constraint k where k.conindid = x.indexrelid
                                           and k.conrelid = c.oid and k.contype in ('p', 'u', 'x'))
    union all
    select 'filled', 40, k.conname, format('alter table %s add constraint %I %s', self, k.conname,
             pg_get_constraintdef(k.oid))
      from c join pg_constraint k on k.conrelid = c.oid where k.contype = 'c'
    union all
    select 'filled', 45, '', case relreplident
             when 'f' then format('alter table %s replica identity full', self)
             when 'n' then format('alter table %s replica identity nothing', self)
             else (select format('alter table %s replica identity using index %I', self, i.relname)
                   from pg_index x join pg_class i on i.oid = x.indexrelid
                   where x.indrelid = c.oid and x.indisreplident) end
      from c where relreplident <> 'd'
    union all
    select 'filled', 50, s.stxname, pg_get_statisticsobjdef(s.oid)
      from c join pg_statistic_ext s on s.stxrelid = c.oid
    union all
    select 'filled', 55, r.rulename, pg_get_ruledef(r.oid) from c join pg_rewrite r on r.ev_class = c.oid
    union all
    select 'filled', 60, t.tgname, pg_get_triggerdef(t.oid)
      from c join pg_trigger t on t.tgrelid = c.oid where not t.tgisinternal and t.tgparentid = 0
    union all
    select 'filled', 61, t.tgname, format('alter table %s %s trigger %I', self,
             case t.tgenabled when 'D' then 'disable' when 'A' then 'enable always' else 'enable replica' end, t.tgname)
      from c join pg_trigger t on t.tgrelid = c.oid where not t.tgisinternal and t.tgparentid = 0 and t.tgenabled <> 'O'
    union all
    select 'filled', 70, '', format('alter table %s enable row level security', self) from c where relrowsecurity
    union all
    select 'filled', 71, '', format('alter table %s force row level security', self) from c where relforcerowsecurity
    union all
    select 'filled', 72, p.policyname, format('create policy %I on %s as %s for %s to %s%s%s', p.policyname, self,
             p.permissive, p.cmd, (select string_agg(case when r = 'public' then r else quote_ident(r) end, ', ')
                                     from unnest(p.roles) r),
             ' using (' || p.qual || ')', ' with check (' || p.with_check || ')')
      from c join pg_policies p on p.schemaname = c.schema and p.tablename = c.relname
    union all
    select 'filled', 80, g.privilege_type || g.grantee, format('grant %s on %s to %s%s', g.privilege_type, self,
             case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end,
             case when g.is_grantable then ' with grant option' else '' end)
      from c, aclexplode(c.relacl) g where g.grantee <> c.relowner
    union all
    select 'filled', 81, a.attname || g.privilege_type || g.grantee, format('grant %s (%I) on %s to %s%s',
             g.privilege_type, a.attname, self,
             case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end,
             case when g.is_grantable then ' with grant option' else '' end)
      from c join pg_attribute a on a.attrelid = c.oid and not a.attisdropped, aclexplode(a.attacl) g
    union all
    select 'filled', 90, coalesce(a.attname, ''), case when a.attname is null
             then format('comment on table %s is %L', self, d.description)
             else format('comment on column %s.%I is %L', self, a.attname, d.description) end
      from c join pg_description d on d.classoid = 'pg_class'::regclass and d.objoid = c.oid
        left join pg_attribute a on a.attrelid = c.oid and a.attnum = d.objsubid and d.objsubid > 0
    union all
    select 'filled', 99, '', format('alter table %s owner to %I', self, owner) from c
    union all
    select 'references', 10, k.conname, format('alter table %s add constraint %I %s', format('%I.%I', n.nspname, f.relname),
             k.conname, pg_get_constraintdef(k.oid))
      from c join pg_constraint k on k.contype = 'f' and c.oid in (k.conrelid, k.confrelid) and k.conparentid = 0
        join pg_class f on f.oid = k.conrelid join pg_namespace n on n.oid = f.relnamespace)
  select phase, text from statements where text is not null
  order by case phase when 'table' then 1 when 'filled' then 2 else 3 end, step, part`;
