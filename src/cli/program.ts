export async function runProgram(args: readonly string[]): Promise<number> {
  process.stdout.write(`${args.join(' ')}\n`);
  return 0;
}
