/** From the least to the most urgent. */
export const severities = ['info', 'warning', 'critical'] as const;
export type Severity = (typeof severities)[number];

/**
 * What a notification is about.
 *
 * - `incident`: a disaster, and how it goes on. `emergency`: writes were stopped, or go on.
 * - `failure`: a backup, a test, a verification, the archive: something is not as it must be.
 * - `success`: one thing went well. `summary`: all of them over a while.
 * - `test`: `aishell backup alert test`.
 */
export const notificationKinds = ['incident', 'emergency', 'failure', 'success', 'summary', 'test'] as const;
export type NotificationKind = (typeof notificationKinds)[number];

/** What people are told. Each channel draws it in its own way. */
export interface Notification {
  readonly kind: NotificationKind;
  readonly severity: Severity;
  readonly instance: string;
  /** One sentence. */
  readonly title: string;
  /** Names and values, in the order they are shown. */
  readonly facts: readonly (readonly [name: string, value: string])[];
  /** What to do next, ready to paste. */
  readonly commands: readonly { readonly title: string; readonly command: string }[];
  /** The same for everything that is told about the same thing: later ones are updates of the first. */
  readonly dedupKey: string;
  readonly incidentId?: string;
  /** Somebody works on what was told under this dedupKey. */
  readonly acknowledgedOf?: string;
  /** What was told under this dedupKey is over. It goes to the channels that heard of it. */
  readonly resolvedOf?: string;
}

/** A notification on its way to a channel. */
export interface Message {
  /** Stays the same in every attempt, so that a receiver can tell a repetition. */
  readonly id: string;
  readonly notification: Notification;
  readonly raisedAt: Date;
  /** It lay in the outbox for a while: the message says when it was raised. */
  readonly isLate: boolean;
}

export type NotificationAction = 'trigger' | 'acknowledge' | 'resolve';

export function actionOf(notification: Notification): NotificationAction {
  if (notification.resolvedOf !== undefined) return 'resolve';
  return notification.acknowledgedOf === undefined ? 'trigger' : 'acknowledge';
}

/** What a notification belongs to: the dedupKey of the first that was told about it. */
export function threadOf(notification: Notification): string {
  return notification.resolvedOf ?? notification.acknowledgedOf ?? notification.dedupKey;
}

export function isAtLeast(severity: Severity, least: Severity): boolean {
  return severities.indexOf(severity) >= severities.indexOf(least);
}

const MOST_FACTS = 20;
const MOST_COMMANDS = 8;
const LONGEST_COMMAND = 500;

/**
 * The same notification within the limits that every channel keeps. Names of tables and texts of queries come from
 * outside: control characters and marks that turn the direction of writing around are replaced.
 */
export function tidyNotification(notification: Notification): Notification {
  const { facts, commands } = notification;
  return {
    ...notification,
    title: oneLine(notification.title, 250),
    facts: facts
      .slice(0, MOST_FACTS)
      .map(([name, value]) => [oneLine(name, 60), cut(withoutControls(value), 1000)]),
    commands: commands
      .filter(({ command }) => isPasteable(command))
      .slice(0, MOST_COMMANDS)
      .map(({ title, command }) => ({ title: oneLine(title, 120), command })),
  };
}

/** Half a command may do something else than the whole one: what does not fit on one line of some length is left out. */
function isPasteable(command: string): boolean {
  return command.length <= LONGEST_COMMAND && command === withoutControls(command).replace(/[\n\t]/g, ' ');
}

/** A text on one line, cut to a number of characters. */
export function oneLine(text: string, most: number): string {
  return cut(withoutControls(text).replace(/\s+/g, ' ').trim(), most);
}

/** A text cut to a number of characters, with an ellipsis; never in the middle of one. */
export function cut(text: string, most: number): string {
  if (text.length <= most) return text;
  const characters = [...text];
  return characters.length <= most ? text : `${characters.slice(0, most - 1).join('')}…`;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it is about
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

function withoutControls(text: string): string {
  return text.toWellFormed().replace(CONTROLS, '�');
}
