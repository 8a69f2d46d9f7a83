import type { Readable, Writable } from 'node:stream';

/** What a command sees of the process that runs it: given by program.ts, and by the tests. */
export interface Terminal {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
}

export type Output = Writable & { readonly isTTY?: boolean; readonly columns?: number };

/** The flags every command has. */
export interface GlobalFlags {
  readonly config?: string;
  readonly instance?: string;
  readonly json?: boolean;
  /** False when --no-color was given. */
  readonly color?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly yes?: boolean;
}

/** Whether to colour: asked for by FORCE_COLOR, else on a terminal that did not refuse (https://no-color.org). */
export function usesColor(output: Output, flags: GlobalFlags, env: NodeJS.ProcessEnv): boolean {
  if (flags.color === false || (env.NO_COLOR ?? '') !== '') return false;
  if ((env.FORCE_COLOR ?? '') !== '') return env.FORCE_COLOR !== '0';
  return output.isTTY === true && env.TERM !== 'dumb';
}
