import type { Config } from './config.ts';
import { type ConfigSearch, findConfigFile } from './find-config.ts';
import { parseConfig } from './parse-config.ts';
import { readConfigText } from './read-config-text.ts';

/** Finds, reads and checks the configuration. @throws CONFIG with every mistake and its line */
export function readConfig(search: ConfigSearch): Config {
  const file = findConfigFile(search);
  return parseConfig(readConfigText(file), file);
}
