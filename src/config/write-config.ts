import { randomBytes } from 'node:crypto';
import { chown, link, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Document, parseDocument } from 'yaml';
import { AppError, fileError, systemCode } from '../base/errors.ts';
import { syncDirectory } from '../base/sync-directory.ts';

/** What `backup init` puts into a new configuration. */
export interface NewInstance {
  readonly name: string;
  readonly connection: string;
  readonly password: string | null;
}

const SCHEMA_COMMENT = ' yaml-language-server: $schema=';

/** The text of a first configuration. */
export function newConfigText(first: {
  readonly instance: NewInstance;
  readonly storage: string;
  readonly key: { readonly file: string } | { readonly passphrase: string };
  readonly schema: string;
}): string {
  const document = new Document({
    version: 1,
    instances: { [first.instance.name]: instanceNode(first.instance) },
    repository: { storage: first.storage, key: first.key },
    backup: { compression: 'zstd:3' },
  });
  document.commentBefore = `${SCHEMA_COMMENT}${first.schema}`;
  return document.toString();
}

/** An existing configuration's text with one more instance; comments and order stay. @throws EXISTS */
export function withInstance(text: string, instance: NewInstance): string {
  const document = parseDocument(text);
  if (document.hasIn(['instances', instance.name])) {
    throw new AppError('EXISTS', `instance '${instance.name}' is in the configuration already`, {
      hint: 'Choose another name with --name.',
    });
  }
  document.setIn(['instances', instance.name], document.createNode(instanceNode(instance)));
  return document.toString();
}

/** Who a file is to belong to; null: whoever runs this. */
type Owner = { readonly uid: number; readonly gid: number } | null;

/** Writes a file that must not exist yet, whole or not at all; durable when this resolves, as a key must be before it is used. @throws EXISTS, FILE_FAILED, DISK_FULL */
export async function writeNewFile(
  path: string,
  text: string,
  facts: { readonly mode: number; readonly owner: Owner },
): Promise<void> {
  const temporary = await writeTemporary(path, text, facts);
  try {
    await link(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    if (systemCode(error) === 'EEXIST')
      throw new AppError('EXISTS', `'${path}' exists already`, {
        hint: 'Nothing was overwritten. Move it away, or choose another place with --config.',
      });
    throw fileError('create', path, error);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Replaces a file in one step. @throws FILE_FAILED, DISK_FULL */
export async function replaceFile(
  path: string,
  text: string,
  facts: { readonly mode: number; readonly owner: Owner },
): Promise<void> {
  const temporary = await writeTemporary(path, text, facts);
  try {
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true });
    throw fileError('write', path, error);
  }
}

async function writeTemporary(
  path: string,
  text: string,
  facts: { readonly mode: number; readonly owner: Owner },
): Promise<string> {
  const temporary = join(dirname(path), `.aishell-${randomBytes(6).toString('hex')}.tmp`);
  try {
    const made = await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    if (made !== undefined && facts.owner !== null)
      await chown(dirname(path), facts.owner.uid, facts.owner.gid);
    const file = await open(temporary, 'wx', facts.mode);
    try {
      if (facts.owner !== null) await file.chown(facts.owner.uid, facts.owner.gid);
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    return temporary;
  } catch (error) {
    await rm(temporary, { force: true });
    throw fileError('write', path, error);
  }
}

function instanceNode(instance: NewInstance): Record<string, unknown> {
  return {
    engine: 'postgresql',
    connection: instance.connection,
    ...(instance.password === null ? {} : { password: instance.password }),
  };
}
