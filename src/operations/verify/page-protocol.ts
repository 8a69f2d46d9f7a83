import type { DamagedPage } from '../../repository/manifest.ts';

export interface PageTask {
  readonly path: string;
  readonly source: string;
  readonly firstBlock: number;
}

export interface PageBatch {
  readonly tasks: readonly PageTask[];
}

export type PageMessage =
  | { readonly type: 'batch'; readonly damaged: readonly DamagedPage[]; readonly pages: number }
  | { readonly type: 'progress'; readonly bytes: number };
