import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ChunkListBuilder, chunksOf, distinctFrames } from '../../src/repository/chunk-list.ts';

test('the different frames of any list - each once, by its first chunk, and every chunk has its own', () => {
  const frame = fc.tuple(fc.oneof(fc.nat(3), fc.nat(2 ** 32 - 1)), fc.oneof(fc.nat(40), fc.nat(2 ** 32 - 1)));
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 300 }), list => {
      const builder = new ChunkListBuilder(0);
      for (const [pack, number] of list) builder.add([5, pack, number, 40, 22, 5, 0, '']);
      const chunks = builder.list();
      const names = chunksOf(chunks).map(([, pack, number]) => `${pack}/${number}`);
      const found = distinctFrames(chunks);
      expect(found.count).toBe(new Set(names).size);
      expect([...found.first].map(index => names[index])).toEqual([...new Set(names)]);
      expect([...found.of].map(each => names[found.first[each]!])).toEqual(names);
    }),
  );
});
