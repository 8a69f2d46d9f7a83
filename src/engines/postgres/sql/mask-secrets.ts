import type { SqlParser, Token } from './sql-parser.ts';

const MASKED = "'[redacted]'";

/** What says that a secret is near, wherever it stands. */
const mention = /pass(word|wd|phrase|code)|pwd|secret|token|credential|api_?key|private_?key|conninfo/i;

/** Words of the language, columns and functions that stand beside a secret. */
const secretWord = /^pass$|^connection$|^dblink|^pgp_|crypt$|^hmac$/i;

/** A text that is a secret by itself: a URL with a password, a password's hash, keys of well-known services. */
const secretText =
  /\/\/[^/\s:@]*:[^/\s@]+@|\b(md5[0-9a-f]{32}|SCRAM-SHA-256\$)|PRIVATE KEY|\b(sk|pk|ghp|xox[abp])[-_]\w|AKIA[0-9A-Z]{16}|eyJ[\w-]+\.eyJ/i;

/**
 * An input with its secrets left out, for whatever is kept of it. Too much is left out rather than too little: where a word like
 * PASSWORD, or a column of that name, stands in an input, all strings of it are. Of one that cannot be read and mentions
 * a secret, only the length is told.
 */
export function maskSecrets(parser: SqlParser, input: string): string {
  const tokens = parser.scan(input);
  if (tokens === null) {
    const told = holdsSecret(input) || input.split(/\W+/).some(word => secretWord.test(word));
    return told ? `[redacted: ${input.length} characters]` : input;
  }
  const suspicious = tokens.some(isSecretWord);
  let masked = '';
  let at = 0;
  for (const token of tokens) {
    const replacement = replacementOf(token, suspicious);
    if (replacement === null) continue;
    masked += input.slice(at, token.start) + replacement;
    at = token.end;
  }
  return masked + input.slice(at);
}

function isSecretWord({ kind, text }: Token): boolean {
  return kind === 'word' && (mention.test(text) || secretWord.test(text));
}

function replacementOf({ kind, text }: Token, suspicious: boolean): string | null {
  if (kind !== 'string' && kind !== 'comment') return null;
  if (!suspicious && !holdsSecret(text)) return null;
  return kind === 'string' ? MASKED : '/* [redacted] */';
}

function holdsSecret(text: string): boolean {
  return mention.test(text) || secretText.test(text);
}
