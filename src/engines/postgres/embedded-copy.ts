import { chmod, constants, copyFile, link, mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../../base/errors.ts';

/** Copies a tree so that everyone can read it. Symbolic links are left out. */
export async function copyTree(source: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  await chmod(target, 0o755);
  for (const entry of await readdir(source, { withFileTypes: true })) {
    const [from, to] = [join(source, entry.name), join(target, entry.name)];
    if (entry.isDirectory()) await copyTree(from, to);
    else if (entry.isFile()) await linkOrCopy(from, to);
  }
}

/** A hard link costs neither time nor space, but shares the mode: taken only where everyone can read the file already. */
export async function linkOrCopy(source: string, target: string): Promise<void> {
  const { mode } = await stat(source);
  const executable = (mode & 0o100) !== 0;
  const wanted = executable ? 0o755 : 0o644;
  if ((mode & wanted & 0o055) === (wanted & 0o055)) {
    const linked = await link(source, target).then(
      () => true,
      error => systemCode(error) === 'EEXIST',
    );
    if (linked) return;
  }
  await copyFile(source, target, constants.COPYFILE_FICLONE);
  await chmod(target, wanted);
}
