import type { SqlParser, Token } from './sql-parser.ts';

const MASKED = "'[redacted]'";

/** A word that says a secret is near: of the language, a column, an option, a function. */
const secretWord =
  /pass(word|wd|phrase|code)?s?$|^pass|pwd|secret|token|credential|api_?key|private_?key|conninfo|^connection$|^dblink|^pgp_|^crypt$|^hmac$|^(en|de)crypt/i;

/** A text that is a secret by itself. */
const secretText =
  /pass(word|wd|phrase)?['"]?\s*[=:]|\/\/[^/\s:@]*:[^/\s@]+@|^.?'?(md5[0-9a-f]{32}|SCRAM-SHA-256\$)|PRIVATE KEY|^.?'?(sk|pk|ghp|xox[abp])[-_]|AKIA[0-9A-Z]{16}|eyJ[\w-]+\.eyJ/i;

/**
 * An input with its secrets left out, for whatever is kept of it. Too much is left out rather than too little: where a word like
 * PASSWORD, or a column of that name, stands in an input, all strings of it are. Where it cannot be read, only its length
 * is told.
 */
export function maskSecrets(parser: SqlParser, input: string): string {
  const tokens = parser.scan(input);
  if (tokens === null) {
    return secretWord.test(input) || secretText.test(input)
      ? `[redacted: ${input.length} characters]`
      : input;
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
  return (
    kind === 'word' &&
    text
      .split(/[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])/)
      .concat(text)
      .some(each => secretWord.test(each))
  );
}

function replacementOf({ kind, text }: Token, suspicious: boolean): string | null {
  if (kind === 'string' && (suspicious || secretText.test(text))) return MASKED;
  const told = kind === 'comment' && (suspicious || secretText.test(text) || secretWord.test(text));
  return told ? '/* [redacted] */' : null;
}
