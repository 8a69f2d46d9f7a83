import { expect, test } from 'vitest';
import { releaseMemory } from '../../src/base/release-memory.ts';

test('a large buffer of its own - its memory is given back, it and its views are empty', () => {
  const bytes = new Uint8Array(1024 * 1024).fill(7);
  const view = bytes.subarray(1);
  releaseMemory(view);
  expect(bytes.length).toBe(0);
  expect(view.length).toBe(0);
});

test('a part of the pool that other buffers live in - it stays, and so do they', () => {
  const neighbour = Buffer.from('a neighbour in the pool');
  const pooled = Buffer.from('what is released');
  releaseMemory(pooled);
  expect(pooled.toString()).toBe('what is released');
  expect(neighbour.toString()).toBe('a neighbour in the pool');
});

test('memory that threads share - it stays', () => {
  const shared = new Uint8Array(new SharedArrayBuffer(1024 * 1024)).fill(7);
  releaseMemory(shared);
  expect(shared[1024 * 1024 - 1]).toBe(7);
});
