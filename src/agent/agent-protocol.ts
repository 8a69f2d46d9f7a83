import type { ErrorRecord } from '../base/errors.ts';
import type { AgentStatus } from './agent-status.ts';

/** What is asked at the agent's socket: one JSON object on a line. Others than these are answered with UNSUPPORTED. */
export type AgentRequest =
  | { readonly op: 'status' }
  /** A segment that archive_command wants archived: `path` is absolute. */
  | { readonly op: 'archive'; readonly name: string; readonly path: string }
  /** Somebody has resolved this incident: what is held for it is let go. */
  | { readonly op: 'resolved'; readonly incident: string };

/** The answers, each on a line; the last one has `ok`. */
export type AgentReply =
  /** Being worked on: comes at once, and then every second. */
  | { readonly working: true }
  | { readonly ok: true; readonly status: AgentStatus }
  | { readonly ok: true; readonly archived: true }
  /** False: nothing is held for the incident. */
  | { readonly ok: true; readonly released: boolean }
  /** The agent cannot say: whoever asks does it himself. */
  | { readonly ok: true; readonly declined: string }
  | { readonly ok: false; readonly error: ErrorRecord };

/** A line that is longer is refused. */
export const LINE_BYTES = 64 * 1024;
export const WORKING_EVERY_MS = 1000;
