import type { Answer } from './alert-receiver.ts';
import { reply } from './alert-receiver.ts';

/** What the tests look into without describing it again. */
// biome-ignore lint/suspicious/noExplicitAny: what came over the wire has no type
export type Json = any;

/**
 * Answers as Slack's incoming webhooks do.
 * @source https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and https://docs.slack.dev/reference/block-kit
 */
export const slackApi: Answer = (request, response) => {
  const isJson = /^application\/json/.test(request.headers['content-type'] ?? '');
  const wrong = request.method !== 'POST' || !isJson ? 'invalid_payload' : slackProblem(parsed(request.body));
  if (wrong === null) reply(200, 'ok', { 'content-type': 'text/html' })(request, response);
  else reply(400, wrong)(request, response);
};

function slackProblem(message: Json): string | null {
  if (message === null) return 'invalid_payload';
  if (typeof message.text !== 'string' || message.text === '') return 'no_text';
  if (!Array.isArray(message.blocks) || message.blocks.length > 50) return 'invalid_blocks';
  return message.blocks.every(isBlock) ? null : 'invalid_blocks';
}

function isBlock(block: Json): boolean {
  const keys = Object.keys(block).sort().join();
  if (block.type === 'header') return keys === 'text,type' && isText(block.text, ['plain_text'], 150);
  if (block.type === 'context') {
    const { elements } = block;
    return (
      keys === 'elements,type' &&
      elements.length >= 1 &&
      elements.length <= 10 &&
      elements.every((text: Json) => isText(text, ['plain_text', 'mrkdwn'], 3000))
    );
  }
  if (block.type !== 'section') return false;
  if (keys === 'text,type') return isText(block.text, ['plain_text', 'mrkdwn'], 3000);
  const { fields } = block;
  return (
    keys === 'fields,type' &&
    fields.length >= 1 &&
    fields.length <= 10 &&
    fields.every((text: Json) => isText(text, ['plain_text', 'mrkdwn'], 2000))
  );
}

function isText(text: Json, types: readonly string[], most: number): boolean {
  const isEmojiRight = text.emoji === undefined || text.type === 'plain_text';
  return types.includes(text.type) && isEmojiRight && text.text.length >= 1 && [...text.text].length <= most;
}

/**
 * Answers as PagerDuty's Events API v2 does.
 * @source https://developer.pagerduty.com/docs/events-api-v2/trigger-events/ and /acknowledge-and-resolve/
 */
export const pagerDutyApi: Answer = (request, response) => {
  const json = { 'content-type': 'application/json' };
  const event = parsed(request.body);
  const errors = request.path === '/v2/enqueue' ? pagerDutyErrors(event) : ['not found'];
  if (errors.length === 0) {
    const body = { status: 'success', message: 'Event processed', dedup_key: event.dedup_key };
    reply(202, JSON.stringify(body), json)(request, response);
    return;
  }
  const body = { status: 'invalid event', message: 'Event object is invalid', errors };
  reply(400, JSON.stringify(body), json)(request, response);
};

function pagerDutyErrors(event: Json): readonly string[] {
  if (event === null) return ['Invalid JSON'];
  const errors: string[] = [];
  const need = (isRight: boolean, text: string): void => void (isRight || errors.push(text));
  need(
    /^[A-Za-z0-9]{32}$/.test(event.routing_key),
    "Length of 'routing_key' is incorrect (should be 32 characters)",
  );
  const isKnown = ['trigger', 'acknowledge', 'resolve'].includes(event.event_action);
  need(isKnown, "'event_action' is invalid");
  need(typeof event.dedup_key === 'string' && event.dedup_key.length <= 255, "'dedup_key' is invalid");
  if (event.event_action !== 'trigger') return errors;
  const { payload } = event;
  if (payload === undefined) return [...errors, "'payload' is missing or blank"];
  need(
    payload.summary?.length >= 1 && payload.summary.length <= 1024,
    "'payload.summary' is missing or blank",
  );
  need(payload.source?.length >= 1, "'payload.source' is missing or blank");
  need(
    ['critical', 'error', 'warning', 'info'].includes(payload.severity),
    "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')",
  );
  need(!Number.isNaN(Date.parse(payload.timestamp)), "'payload.timestamp' is invalid");
  need(request512(event), 'too large');
  return errors;
}

function request512(event: Json): boolean {
  return JSON.stringify(event).length <= 512 * 1024;
}

function parsed(body: string): Json {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}
