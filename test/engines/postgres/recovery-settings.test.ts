import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  addSettingsBlock,
  formatTablespaceMap,
  isolatingSettingsFor,
  neutraliseConfiguration,
  parseTablespaceMap,
  recoverySettings,
  settingLine,
  stripSettingsBlock,
} from '../../../src/engines/postgres/recovery-settings.ts';

test('an LSN target - is the only target that is set, the others are emptied', () => {
  const settings = recoverySettings({
    target: { kind: 'lsn', lsn: '0/5E1FFF10', inclusive: false },
    timeline: 3,
    action: 'pause',
    restoreCommand: 'cp %f %p',
  });
  const targets = Object.entries(settings).filter(
    ([name, value]) => /^recovery_target(_name|_lsn|_time|_xid)?$/.test(name) && value !== '',
  );
  expect(targets).toEqual([['recovery_target_lsn', '0/5E1FFF10']]);
  expect(settings).toMatchObject({
    recovery_target_inclusive: 'off',
    recovery_target_timeline: '3',
    recovery_target_action: 'pause',
    restore_command: 'cp %f %p',
  });
});

test('version 14 - gets no setting that it does not know', () => {
  expect(isolatingSettingsFor(14)).not.toHaveProperty('archive_library');
  expect(isolatingSettingsFor(16)).not.toHaveProperty('promote_trigger_file');
  expect(isolatingSettingsFor(18)).toMatchObject({
    archive_library: '',
    archive_mode: 'off',
    primary_conninfo: '',
  });
});

test('a block added twice and stripped - the file is as it was', () => {
  fc.assert(
    fc.property(fc.array(fc.string().filter(text => !/[\n\r#]/.test(text))), lines => {
      const text = lines.map(line => `${line}\n`).join('');
      const once = addSettingsBlock(text, { port: '1' });
      expect(addSettingsBlock(once, { port: '2' })).toBe(once.replace("port = '1'", "port = '2'"));
      expect(stripSettingsBlock(once)).toBe(text);
    }),
  );
});

test('a block that was cut off - goes to the end of the file', () => {
  const text = addSettingsBlock('a = 1\n', { port: '1' });
  expect(stripSettingsBlock(text.slice(0, text.indexOf('port')))).toBe('a = 1\n');
});

test('a value with quotes, backslashes and line ends - is one line', () => {
  expect(settingLine('restore_command', "a'b\\c\nd")).toBe("restore_command = 'a''b\\\\c\\nd'");
  expect(() => settingLine('a = 1 #', 'x')).toThrow();
});

test('a configuration from outside - names no other place any more', () => {
  const text = [
    "data_directory = '/var/lib/postgresql/15/main'\t\t# use data",
    'hba_file=/etc/x',
    'IDENT_FILE /etc/y',
    "external_pid_file = '/run/p.pid'",
    '#data_directory = 1',
    "include_dir = 'conf.d'",
    "include 'away.conf'",
    'port = 5432',
  ].join('\n');
  const lines = neutraliseConfiguration(text, path => path === 'conf.d').split('\n');
  expect(lines.filter(line => !line.startsWith('#'))).toEqual(["include_dir = 'conf.d'", 'port = 5432']);
});

test('tablespace_map - written and read again, whatever the paths hold', () => {
  const path = fc.string({ minLength: 1, unit: fc.constantFrom('/', 'a', ' ', '\\', '\n', '\r', 'ü') });
  fc.assert(
    fc.property(fc.array(fc.record({ oid: fc.nat(), path })), entries => {
      expect(parseTablespaceMap(formatTablespaceMap(entries))).toEqual(entries);
    }),
  );
  expect(parseTablespaceMap('16400 /srv/a b\n16401 /srv/c\n')).toEqual([
    { oid: 16400, path: '/srv/a b' },
    { oid: 16401, path: '/srv/c' },
  ]);
  expect(() => parseTablespaceMap('nonsense\n')).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
});
