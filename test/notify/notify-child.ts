import { notify } from '../../src/notify/notify.ts';
import { massDelete, never } from './sample-alerts.ts';
import { alertingWith, slackAt } from './slack-alerting.ts';

// Tells of a mass delete: `node notify-child.ts DIRECTORY URL`. The test kills it while it does.
const [directory = '', url = ''] = process.argv.slice(2);
await notify(alertingWith(directory, [slackAt('slack', { url })]), massDelete, { signal: never });
