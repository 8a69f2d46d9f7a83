import type { GuardServer } from '../../engines/postgres/guard-facts.ts';

/** What no statement of this program can do. `sql` is an example for people to judge. */
export interface Recommendation {
  readonly text: string;
  readonly sql: string | null;
}

export function recommendationsFor(server: GuardServer): Recommendation[] {
  const database = server.quotedDatabase;
  return [
    { text: 'Have a second person look at statements that are run by hand on production.', sql: null },
    { text: 'Let analytics and reports read from a replica, not from the server that writes.', sql: null },
    { text: 'Limit how much a job may write at a time: batches, with a pause between them.', sql: null },
    {
      text: 'DROP DATABASE is refused of a template, and allowed to its owner alone: mark it as one, and give it to a role that nobody logs in as. (Whoever may make databases can then copy it.)',
      sql: `alter database ${database} is_template true;`,
    },
    ...(server.pgauditAvailable
      ? [
          {
            text: 'The extension pgaudit is installed: it also says which tables a statement has touched. It has to be in shared_preload_libraries, which takes a restart.',
            sql: null,
          },
        ]
      : []),
  ];
}
