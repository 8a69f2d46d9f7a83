import { benchDetection } from './detection.ts';
import type { Setting } from './stage.ts';

/** The disaster: how soon it is noticed, and what it costs to be ready. */
export async function benchDisaster(setting: Setting): Promise<void> {
  await benchDetection(setting);
}
