import { parseDuration } from '../base/duration.ts';
import { parseSize } from '../base/sizes.ts';
import type { WatchConfig } from './config.ts';
import type { RawConfig } from './schema.ts';

type RawWatch = NonNullable<RawConfig['watch']>;

/** How an instance is watched: what its own section leaves out, the one for all says. */
export function toWatch(all: RawWatch | undefined, own: RawWatch | undefined): WatchConfig {
  const raw = { ...all, ...own };
  return Object.freeze({
    enabled: raw.enabled ?? true,
    policy: raw.policy ?? 'hold',
    rows: raw.rows ?? 100_000,
    share: toShare(raw.share ?? '50%'),
    shareRows: raw.share_rows ?? 1000,
    lostTableRows: raw.lost_table_rows ?? 1000,
    rate: raw.rate ?? true,
    tables: (raw.tables ?? []).map(each => Object.freeze({ table: each.table, ...toLimits(each) })),
    roles: (raw.roles ?? []).map(each => Object.freeze({ role: each.role, ...toLimits(each) })),
    allow: (raw.allow ?? []).map(({ tables = [], roles = [], applications = [], between }) =>
      Object.freeze({ tables, roles, applications, between: toTimes(between) }),
    ),
    holdForMs: parseDuration(raw.hold_for ?? '1h') * 1000,
    holdLimitBytes: parseSize(raw.hold_limit ?? '20GB'),
    showQuery: raw.show_query ?? false,
  });
}

function toLimits(
  raw: Pick<NonNullable<RawWatch['tables']>[number], 'rows' | 'share' | 'policy'>,
): Omit<WatchConfig['tables'][number], 'table'> {
  return {
    rows: raw.rows ?? null,
    policy: raw.policy ?? null,
    ...(raw.share === undefined ? {} : { share: toShare(raw.share) }),
  };
}

function toShare(text: string): number | null {
  return text === 'off' ? null : Number(text.slice(0, -1)) / 100;
}

function toTimes(text: string | undefined): WatchConfig['allow'][number]['between'] {
  if (text === undefined) return null;
  const [fromMinute = 0, toMinute = 0] = text.split('-').map(time => {
    const [hours = 0, minutes = 0] = time.split(':').map(Number);
    return hours * 60 + minutes;
  });
  return { fromMinute, toMinute };
}
