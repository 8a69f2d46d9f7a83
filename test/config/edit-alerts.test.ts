import { describe, expect, it } from 'vitest';
import { type AlertChanges, noAlertChanges } from '../../src/config/alert-changes.ts';
import { withAlertChanges } from '../../src/config/edit-alerts.ts';
import { parseConfig } from '../../src/config/parse-config.ts';

const base = `# ours, do not touch
version: 1
instances:
  production:   # the big one
    engine: postgresql
    connection: "postgresql://postgres@/postgres?host=/var/run/postgresql"
repository:
  storage: /var/backups/aishell
  key: {file: /etc/aishell/aishell.key}
`;
const change = (text: string, changes: Partial<AlertChanges>): string => {
  const changed = withAlertChanges(text, { ...noAlertChanges, ...changes });
  // Whatever comes out is a configuration.
  parseConfig(changed, '/x/aishell.yaml');
  return changed;
};
const slack = { name: 'slack', keys: { type: 'slack', webhook: 'env:SLACK' } };

describe('withAlertChanges', () => {
  it('sections that are not there - added at the end, everything else byte for byte as it was', () => {
    const changed = change(base, {
      channels: [slack],
      failureSeverity: 'critical',
      failureChannels: ['slack'],
    });
    expect(changed).toBe(`${base}notifications:
  channels:
    slack:
      type: slack
      webhook: env:SLACK
alerts:
  on_failure:
    channels: [slack]
    severity: critical
`);
  });

  it('sections between others, with comments - only what is changed is changed', () => {
    const text = base.replace(
      'repository:',
      `# who hears
alerts:
  # when it fails
  on_failure:
    severity: warning # for now
notifications:
  channels:
    ops: { type: slack, webhook: env:OPS }

# where
repository:`,
    );
    expect(change(text, { failureSeverity: 'critical' })).toBe(
      text.replace('severity: warning', 'severity: critical'),
    );
    const added = change(text, { channels: [slack] });
    expect(
      added
        .replace('    slack:\n      type: slack\n      webhook: env:SLACK\n', '')
        .replace('{type: slack, webhook: env:OPS}', '{ type: slack, webhook: env:OPS }'),
    ).toBe(text);
  });

  it('the same again - the same text', () => {
    const once = change(base, { channels: [slack], successFrequency: 'weekly' });
    expect(change(once, { channels: [slack], successFrequency: 'weekly' })).toBe(once);
  });

  it('a channel that is there - only the given keys change', () => {
    const once = change(base, {
      channels: [{ name: 'slack', keys: { ...slack.keys, min_severity: 'critical' } }],
    });
    const twice = change(once, {
      channels: [{ name: 'slack', keys: { type: 'slack', webhook: 'env:OTHER' } }],
    });
    expect(twice).toBe(once.replace('env:SLACK', 'env:OTHER'));
    expect(() => change(once, { channels: [{ name: 'slack', keys: { type: 'email' } }] })).toThrow(
      "channel 'slack' exists already, of type slack",
    );
  });

  it('a channel taken out - from the lists too, and no list is left empty', () => {
    const ops = { name: 'ops', keys: { type: 'slack', webhook: 'env:OPS' } };
    const text = change(base, {
      channels: [slack, ops],
      failureChannels: ['slack', 'ops'],
      successChannels: ['slack'],
    });
    const { notifications } = parseConfig(change(text, { removed: ['slack'] }), '/x');
    expect(notifications.channels.map(({ name }) => name)).toEqual(['ops']);
    expect(notifications.policy).toMatchObject({
      onFailure: { channels: ['ops'] },
      onSuccess: { channels: null },
    });
    expect(() => change(text, { removed: ['slak'] })).toThrow("there is no channel 'slak'");
  });

  it('a list with a name that no channel has - refused', () => {
    expect(() => change(base, { channels: [slack], incidentChannels: ['slcak'] })).toThrow(
      "there is no channel 'slcak'",
    );
  });

  it.each([
    ['empty groups', `${base}notifications: {}\nalerts: { on_failure: {} }\n`],
    ['no line end at the close', base.trimEnd()],
    [
      'all on one line',
      `{version: 1, instances: {a: {engine: postgresql, connection: "postgresql://x@/y"}}, repository: {storage: /b, key: {file: /k}}}`,
    ],
  ])('%s - changed all the same', (_name, text) => {
    const changed = change(text, { channels: [slack], repeatAfter: '1h' });
    expect(parseConfig(changed, '/x').notifications).toMatchObject({
      channels: [{ name: 'slack', webhook: 'env:SLACK' }],
      policy: { repeatAfterMs: 3_600_000 },
    });
  });

  it('lines that end in CR LF - end so everywhere', () => {
    const changed = change(base.replaceAll('\n', '\r\n'), { channels: [slack] });
    expect(changed.replaceAll('\r\n', '')).not.toMatch(/[\r\n]/);
  });
});
