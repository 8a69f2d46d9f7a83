import { AppError, messageOf } from '../base/errors.ts';
import type { AlertPolicy } from './alert-policy.ts';
import type { Notification } from './notification.ts';

/** What failed, as the one who tells of it knows it. */
export interface Failure {
  readonly instance: string;
  /** Stable, kebab-case: `backup`, `restore-test`, `log-archive`. Failures of one subject are one alert. */
  readonly subject: string;
  /** One sentence, like `The backup failed`. */
  readonly title: string;
  readonly error: unknown;
  readonly facts?: Notification['facts'];
  readonly commands?: Notification['commands'];
}

/** A failure as a notification, as severe as the policy says. */
export function failureNotification(failure: Failure, policy: AlertPolicy): Notification {
  const { instance, title, error, facts = [], commands = [] } = failure;
  const known: Notification['facts'] =
    error instanceof AppError
      ? [
          ['Error', error.message],
          ...(error.hint === undefined ? [] : [['What to do', error.hint] as const]),
          ['Code', error.code],
        ]
      : [['Error', messageOf(error)]];
  return {
    kind: 'failure',
    severity: policy.onFailure.severity,
    instance,
    title,
    facts: [...known, ...facts],
    commands,
    dedupKey: failureKey(failure),
  };
}

/** That a subject works again: the end of its failures, for those who heard of them. */
export function recoveryNotification(
  recovery: Pick<Failure, 'instance' | 'subject' | 'title' | 'facts'>,
): Notification {
  const { instance, title, facts = [] } = recovery;
  const resolvedOf = failureKey(recovery);
  return {
    kind: 'failure',
    severity: 'info',
    instance,
    title,
    facts,
    commands: [],
    dedupKey: resolvedOf,
    resolvedOf,
  };
}

function failureKey({ instance, subject }: Pick<Failure, 'instance' | 'subject'>): string {
  return `aishell/${instance}/${subject}`;
}
