import { createHash } from 'node:crypto';
import { actionOf, type Message, oneLine, threadOf } from './notification.ts';
import { briefTitle, formatMoment, shownFacts } from './wording.ts';

export interface EmailMessage {
  readonly subject: string;
  readonly text: string;
  readonly messageId: string;
  /** What mail programs group by: the same for all that is told about one thing. */
  readonly references: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly priority: 'high' | 'normal';
}

/** A notification as plain text: it is read on phones at night, and by other programs. */
export function emailMessage(message: Message): EmailMessage {
  const { notification, id } = message;
  const { severity, instance, commands, incidentId } = notification;
  const title = briefTitle(notification);
  const facts = [
    ['Instance', instance],
    ['Severity', severity],
    ['Raised', formatMoment(message.raisedAt)],
    ...(incidentId === undefined ? [] : [['Incident', incidentId]]),
    ...shownFacts(message),
  ].map(([name, value = '']) => `${name}: ${value.replaceAll('\n', '\n  ')}`);
  const next = commands.flatMap(({ title: does, command }) => ['', `${does}:`, `  ${command}`]);
  const isUrgent = severity === 'critical' && actionOf(notification) === 'trigger';
  return {
    subject: oneLine(`[${severity}] ${instance}: ${title}`, 200),
    text: [title, '', ...facts, ...next, '', '-- ', `aishell, ${notification.kind} ${id}`, ''].join('\n'),
    messageId: `<${id}@aishell.invalid>`,
    references: `<${createHash('sha256').update(threadOf(notification)).digest('hex').slice(0, 32)}@aishell.invalid>`,
    // No answer of a machine to the message of a machine. @source RFC 3834, 5
    headers: { 'Auto-Submitted': 'auto-generated' },
    priority: isUrgent ? 'high' : 'normal',
  };
}
