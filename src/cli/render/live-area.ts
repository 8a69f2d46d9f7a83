import { createLogUpdate } from 'log-update';
import type { Output } from '../terminal.ts';

/** The last lines of a terminal, which are drawn over and over; finished lines go above them. */
export interface LiveArea {
  print(line: string): void;
  draw(lines: readonly string[]): void;
  /** Takes the drawn lines away and shows the cursor again. */
  end(): void;
}

export function createLiveArea(output: Output): LiveArea {
  const update = createLogUpdate(output as NodeJS.WriteStream, { showCursor: false });
  let drawn: readonly string[] = [];
  const redraw = (): void => {
    if (drawn.length > 0) update(drawn.join('\n'));
  };
  return {
    print(line) {
      update.clear();
      output.write(`${line}\n`);
      redraw();
    },
    draw(lines) {
      drawn = lines;
      if (drawn.length === 0) update.clear();
      else redraw();
    },
    end() {
      drawn = [];
      update.clear();
      update.done();
    },
  };
}
