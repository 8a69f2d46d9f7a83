import { expect, it } from 'vitest';
import { createJsonRenderer } from '../../src/cli/render/render-json.ts';

it('events and outcome - one JSON object per line, progress four times a second and at its end', () => {
  const lines: string[] = [];
  let ms = 0;
  const renderer = createJsonRenderer(
    line => void lines.push(line),
    () => ms,
  );
  renderer.onEvent({ type: 'step', step: 'copy', title: 'Copy', state: 'started' });
  for (ms = 0; ms <= 600; ms += 100)
    renderer.onEvent({ type: 'progress', step: 'copy', doneBytes: ms, totalBytes: 600 });
  renderer.onEvent({ type: 'step', step: 'copy', title: 'Copy', state: 'done', seconds: 0.6 });
  renderer.result(
    { lsn: 7n, map: new Map([['a', 1]]), bytes: new Uint8Array([1, 255]), text: 'a\nb' },
    () => undefined,
  );
  const parsed = lines.map(line => JSON.parse(line));
  expect(parsed.filter(line => line.type === 'progress').map(line => line.doneBytes)).toEqual([0, 300, 600]);
  expect(parsed.map(line => line.type)).toEqual([
    'step',
    'progress',
    'progress',
    'progress',
    'step',
    'result',
  ]);
  expect(parsed.at(-1)).toEqual({
    type: 'result',
    result: { lsn: '7', map: { a: 1 }, bytes: '01ff', text: 'a\nb' },
  });
  expect(lines.every(line => !line.includes('\n'))).toBe(true);
});
