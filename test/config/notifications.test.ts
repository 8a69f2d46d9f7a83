import { describe, expect, it } from 'vitest';
import { AppError } from '../../src/base/errors.ts';
import type { NotificationsConfig } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { quickConfig } from '../../src/config/quick-config.ts';
import { readCheckout } from '../tidy/sources.ts';

const base = `version: 1
instances:
  production: { engine: postgresql, connection: 'postgresql://postgres@/postgres' }
repository:
  storage: /var/backups/aishell
  key: { file: /etc/aishell/aishell.key }
`;
const parse = (text: string): NotificationsConfig =>
  parseConfig(`${base}${text}`, '/x/aishell.yaml').notifications;
const mistakes = (text: string): string => {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof AppError) return error.message;
  }
  throw new Error('it was accepted');
};

/** The block `alerts:` of the tutorial's `backup_testing`, as it stands there. */
const tutorial = `alerts:
    on_failure:
      channels: [slack, pagerduty]
      severity: critical
    on_success:
      channels: [slack]
      severity: info
      frequency: weekly  # Only alert weekly if all passing
`;

describe('notifications', () => {
  it('nothing said - no channel, and careful defaults', () => {
    expect(parse('')).toEqual({
      channels: [],
      policy: {
        onIncident: { channels: null },
        onFailure: { channels: null, severity: 'warning' },
        onSuccess: { channels: null, severity: 'info', frequency: 'weekly' },
        repeatAfterMs: 4 * 3_600_000,
        mostPerHour: 60,
      },
      directory: null,
    });
  });

  it("the tutorial's alerts - as they stand", () => {
    expect(parse(tutorial).policy).toMatchObject({
      onFailure: { channels: ['slack', 'pagerduty'], severity: 'critical' },
      onSuccess: { channels: ['slack'], severity: 'info', frequency: 'weekly' },
    });
  });

  it("the manual's example - every channel with its defaults, and quickly read too", async () => {
    const yaml = /```yaml\n([\s\S]*?)```/.exec(readCheckout('docs/notifications.md'))?.[1] ?? '';
    const { channels } = parse(yaml);
    const info = { minSeverity: 'info', kinds: null };
    const rules = { allowPrivate: false, allowHttp: false, ca: null };
    expect(channels).toEqual([
      { name: 'slack', type: 'slack', hears: info, webhook: 'env:SLACK_WEBHOOK_URL', ...rules },
      {
        name: 'pagerduty',
        type: 'pagerduty',
        hears: { minSeverity: 'warning', kinds: null },
        routingKey: 'file:/etc/aishell/pagerduty.key',
        url: 'https://events.pagerduty.com/v2/enqueue',
        ...rules,
      },
      {
        name: 'mail',
        type: 'email',
        hears: info,
        host: 'mail.example.com',
        port: 587,
        security: 'starttls',
        allowPlaintext: false,
        ca: null,
        user: 'aishell',
        password: 'env:SMTP_PASSWORD',
        from: 'aishell@example.com',
        to: ['dba@example.com', 'devops@example.com'],
      },
      {
        name: 'ops',
        type: 'webhook',
        hears: info,
        url: 'https://ops.example.com/aishell',
        secret: 'file:/etc/aishell/webhook.secret',
        ...rules,
      },
    ]);
    const quick = await quickConfig(`${base}${yaml}`, { file: '/x/aishell.yaml', cacheDirectory: null });
    expect(quick?.notifications).toEqual(parse(yaml));
  });

  it('mistakes - all at once, each with its line, and no secret repeated', () => {
    const found = mistakes(`notifications:
  channels:
    Slack: { type: slack, webhook: env:A }
    a: { type: slack, webhook: https://hooks.slack.com/services/topsecret }
    b: { type: carrier-pigeon }
    c: { type: email, host: h, from: nobody, to: [], user: u }
    d: { type: webhook, url: 'ftp://x', secret: env:S, min_severty: info }
  repeat_after: soon
alerts:
  on_failure: { severity: terrible }
`);
    expect(found).not.toContain('topsecret');
    for (const part of [
      'line 9: notifications.channels.Slack: a name is up to 32 lower case letters',
      'line 10: notifications.channels.a.webhook: a secret is given as env:NAME',
      'line 11: notifications.channels.b',
      'line 12: notifications.channels.c.from: must be a mail address',
      "line 13: notifications.channels.d.min_severty: is not a known key, did you mean 'min_severity'?",
      'line 13: notifications.channels.d.url',
      'line 14: notifications.repeat_after: must be a number with s, m, h or d',
      "line 16: alerts.on_failure.severity: must be 'info' or 'warning' or 'critical', and is 'terrible'",
    ])
      expect(found).toContain(part);
  });
});
