import { actionOf, type Message, type Notification } from './notification.ts';

/** A title that says by itself whether something began, is being worked on, or is over. */
export function briefTitle(notification: Notification): string {
  const prefix = { trigger: '', acknowledge: 'Acknowledged: ', resolve: 'Resolved: ' }[
    actionOf(notification)
  ];
  return `${prefix}${notification.title}`;
}

/** The facts, and that they are from earlier when they are. */
export function shownFacts({ notification, isLate, raisedAt }: Message): Notification['facts'] {
  if (!isLate) return notification.facts;
  return [['Delivered late', `raised at ${formatMoment(raisedAt)}`], ...notification.facts];
}

/** `2025-10-27 14:00:23 UTC` */
export function formatMoment(moment: Date): string {
  return moment.toISOString().replace(/T(.{8}).*$/, ' $1 UTC');
}
