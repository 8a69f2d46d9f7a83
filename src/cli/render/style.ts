import { styleText } from 'node:util';

/** How parts of the text look; plain when there is no colour. */
export interface Style {
  title(text: string): string;
  dim(text: string): string;
  good(text: string): string;
  bad(text: string): string;
  warn(text: string): string;
}

const plain = (text: string): string => text;
const plainStyle: Style = { title: plain, dim: plain, good: plain, bad: plain, warn: plain };

// Whether to colour was decided from the flags and the environment already: styleText must not decide again.
const force = { validateStream: false } as const;
const colorStyle: Style = {
  title: text => styleText('bold', text, force),
  dim: text => styleText('dim', text, force),
  good: text => styleText('green', text, force),
  bad: text => styleText('red', text, force),
  warn: text => styleText('yellow', text, force),
};

export function styleFor(color: boolean): Style {
  return color ? colorStyle : plainStyle;
}
