import { PassThrough } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { confirmPhrase } from '../../src/cli/confirm.ts';
import type { CommandRun } from '../../src/cli/run-command.ts';
import type { Terminal } from '../../src/cli/terminal.ts';

const stop = new AbortController();
const opened: PassThrough[] = [];
afterEach(() => {
  for (const stream of opened.splice(0)) stream.destroy();
});

function terminal(
  isTTY: boolean,
  signal = stop.signal,
): { readonly run: CommandRun; readonly input: PassThrough; shown(): string } {
  const stdin = Object.assign(new PassThrough(), { isTTY });
  const stdout = Object.assign(new PassThrough(), { isTTY });
  opened.push(stdin, stdout);
  let shown = '';
  stdout.on('data', chunk => {
    shown += String(chunk);
  });
  const made: Terminal = { stdin, stdout, stderr: new PassThrough(), env: {}, cwd: '/', signal };
  const nothing = (): void => undefined;
  const run: CommandRun = {
    terminal: made,
    flags: {},
    signal,
    onEvent: nothing,
    show: nothing,
    pause: nothing,
  };
  return { run, input: stdin, shown: () => shown };
}

const asked = {
  phrase: 'restore production',
  question: "Type 'restore production': ",
  flags: '--confirm "restore production" --yes',
};

describe('confirmPhrase', () => {
  it('typed as asked - goes on', async () => {
    const { run, input, shown } = terminal(true);
    const done = confirmPhrase(run, { ...asked, given: null });
    input.write('restore production\n');
    await expect(done).resolves.toBeUndefined();
    expect(shown()).toContain(asked.question);
  });

  it.each(['restore prod', 'yes', '', 'Restore Production'])('%j typed - refused', async answer => {
    const { run, input } = terminal(true);
    const done = confirmPhrase(run, { ...asked, given: null });
    input.write(`${answer}\n`);
    await expect(done).rejects.toMatchObject({ code: 'CONFIRMATION_REQUIRED' });
  });

  it('the input ends - refused instead of waiting for ever', async () => {
    const { run, input } = terminal(true);
    const done = confirmPhrase(run, { ...asked, given: null });
    input.end();
    await expect(done).rejects.toMatchObject({ code: 'CONFIRMATION_REQUIRED' });
  });

  it('cancelled while it waits - ends with the reason', async () => {
    const cancel = new AbortController();
    const { run } = terminal(true, cancel.signal);
    const done = confirmPhrase(run, { ...asked, given: null });
    cancel.abort(new DOMException('cancelled', 'AbortError'));
    await expect(done).rejects.toMatchObject({ name: 'AbortError' });
  });

  it('no terminal - refused, and the hint names both flags', async () => {
    const { run } = terminal(false);
    await expect(confirmPhrase(run, { ...asked, given: null })).rejects.toMatchObject({
      code: 'CONFIRMATION_REQUIRED',
      exitCode: 4,
      hint: expect.stringContaining('--confirm "restore production" --yes'),
    });
  });

  it('a command that takes no phrase as a flag - the hint names the flag that it does take', async () => {
    const { run, input } = terminal(true);
    const done = confirmPhrase(run, { ...asked, flags: '--yes', given: null });
    input.write('no\n');
    await expect(done).rejects.toMatchObject({
      hint: 'Nothing was changed. Type restore production when asked, or give --yes.',
    });
  });

  it('given as a flag - not asked; another text as a flag - refused, not asked again', async () => {
    const { run, shown } = terminal(true);
    await confirmPhrase(run, { ...asked, given: 'restore production' });
    await expect(confirmPhrase(run, { ...asked, given: 'restore staging' })).rejects.toMatchObject({
      code: 'CONFIRMATION_REQUIRED',
    });
    expect(shown()).toBe('');
  });
});
