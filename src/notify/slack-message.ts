import { actionOf, cut, type Message, type Severity } from './notification.ts';
import { briefTitle, formatMoment, shownFacts } from './wording.ts';

/** Of Block Kit. @source https://docs.slack.dev/reference/block-kit/blocks (header, section, context) */
const LONGEST_HEADER = 150;
const LONGEST_FIELD = 2000;
const LONGEST_SECTION = 3000;
const FIELDS_PER_SECTION = 10;

interface SlackText {
  readonly type: 'plain_text' | 'mrkdwn';
  readonly text: string;
  readonly emoji?: boolean;
}

export type SlackBlock =
  | { readonly type: 'header'; readonly text: SlackText }
  | { readonly type: 'section'; readonly text: SlackText }
  | { readonly type: 'section'; readonly fields: readonly SlackText[] }
  | { readonly type: 'context'; readonly elements: readonly SlackText[] };

/** What an incoming webhook takes. */
export interface SlackMessage {
  /** Shown where blocks are not: in notifications and by screen readers. */
  readonly text: string;
  readonly blocks: readonly SlackBlock[];
  readonly unfurl_links: false;
  readonly unfurl_media: false;
}

const signs: Readonly<Record<Severity, string>> = { info: 'ℹ️', warning: '⚠️', critical: '🚨' };

/** A notification as a message of Slack. @source https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks */
export function slackMessage(message: Message): SlackMessage {
  const { notification } = message;
  const { severity, instance, incidentId, commands } = notification;
  const sign = { trigger: signs[severity], acknowledge: '👀', resolve: '✅' }[actionOf(notification)];
  const title = briefTitle(notification);
  const fields = shownFacts(message).map(([name, value]) =>
    markdown(`*${escapeText(name)}*\n${escapeText(value, LONGEST_FIELD - 400)}`),
  );
  const context = [
    `Severity: *${severity}*`,
    `Instance: *${escapeText(instance)}*`,
    ...(incidentId === undefined ? [] : [`Incident: \`${escapeText(incidentId)}\``]),
    formatMoment(message.raisedAt),
  ];
  return {
    text: escapeText(`${sign} ${instance}: ${title}`),
    blocks: [
      { type: 'header', text: plain(`${sign} ${title}`) },
      // A header is cut at 150 characters: what does not fit there stands whole below it.
      ...([...`${sign} ${title}`].length > LONGEST_HEADER ? [section(escapeText(title))] : []),
      ...chunk(fields, FIELDS_PER_SECTION).map(some => ({ type: 'section', fields: some }) as const),
      ...commands.map(({ title: does, command }) =>
        section(`${escapeText(does, 300)}\n\`\`\`${escapeText(command.replaceAll('```', "'''"))}\`\`\``),
      ),
      { type: 'context', elements: [markdown(context.join('  ·  '))] },
    ],
    unfurl_links: false,
    unfurl_media: false,
  };
}

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' };

/**
 * These three characters are all that Slack's markup gives a meaning to: no name can mention a channel or be a link. The
 * result is cut where it would be too long, but never within an escaped character.
 */
function escapeText(text: string, most = LONGEST_SECTION): string {
  let escaped = '';
  for (const character of text) {
    const next = escapes[character] ?? character;
    if (escaped.length + next.length > most - 1) return `${escaped}…`;
    escaped += next;
  }
  return escaped;
}

function plain(text: string): SlackText {
  return { type: 'plain_text', text: cut(text, LONGEST_HEADER), emoji: true };
}

function markdown(text: string): SlackText {
  return { type: 'mrkdwn', text };
}

function section(text: string): SlackBlock {
  return { type: 'section', text: markdown(text) };
}

function chunk<T>(items: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  );
}
