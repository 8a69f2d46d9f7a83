/**
 * Where the code of a worker thread lies: `<name>.ts` beside its caller in the sources, `<name>.js` beside the bundle
 * once built (dist/ is flat; scripts/build.ts makes an entry of every `*-worker.ts`).
 *
 * @param name file name without extension, e.g. `backup-worker`
 * @param callerUrl the caller's `import.meta.url`; the worker's source must lie in the same folder
 */
export function workerUrl(name: string, callerUrl: string): URL {
  const extension = new URL(callerUrl).pathname.endsWith('.ts') ? 'ts' : 'js';
  return new URL(`./${name}.${extension}`, callerUrl);
}
