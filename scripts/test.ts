import { parseArgs } from 'node:util';
import { type Reporter, startVitest, type TestModule, type TestRunEndReason } from 'vitest/node';

interface Counts {
  passed: number;
  failed: number;
  /** Title and reason of every test that was not run. */
  skipped: string[];
}

/** Counts what ran; the built-in reporter beside it prints the tests. */
class Counter implements Reporter {
  readonly counts: Counts = { passed: 0, failed: 0, skipped: [] };

  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[], reason: TestRunEndReason): void {
    const { counts } = this;
    for (const module of modules) {
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === 'passed') counts.passed += 1;
        else if (result.state === 'failed') counts.failed += 1;
        else
          counts.skipped.push(
            `${module.relativeModuleId}: ${test.fullName} (${noteOf(result) ?? 'not run'})`,
          );
      }
      // A file that cannot be loaded, or a hook that fails, is a failure that no test of its own stands for.
      const suites = [module, ...module.children.allSuites()];
      counts.failed += suites.filter(suite => suite.errors().length > 0).length;
    }
    counts.failed += errors.length;
    if (reason === 'interrupted') counts.skipped.push('everything after the interruption');
  }
}

function noteOf(result: object): string | undefined {
  return 'note' in result && typeof result.note === 'string' ? result.note : undefined;
}

/** `npm test [-- FILE…] [-- --project unit|real]`: both test projects, and at the very end the line `N passed, N failed`. */
async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { project: { type: 'string', multiple: true } },
  });
  const counter = new Counter();
  const vitest = await startVitest('test', positionals, {
    run: true,
    watch: false,
    reporters: ['default', counter],
    ...(values.project === undefined ? {} : { project: values.project }),
  });
  await vitest.close();
  const { passed, skipped } = counter.counts;
  // Vitest fails a run for more than failed tests: a set-up that breaks, no test found.
  const failed = counter.counts.failed || (process.exitCode || passed === 0 ? 1 : 0);
  process.exitCode = failed === 0 ? 0 : 1;
  if (skipped.length > 0) {
    process.stdout.write(`\n${skipped.length} skipped:\n${skipped.map(line => `  ${line}\n`).join('')}`);
  }
  process.stdout.write(`\n${passed} passed, ${failed} failed\n`);
}

await main();
