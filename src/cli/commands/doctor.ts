import { exitCodes } from '../../base/codes.ts';
import { counted } from '../../base/sizes.ts';
import type { DoctorReport, Finding } from '../../operations/doctor/doctor.ts';
import { addExamples, type Cli } from '../cli.ts';
import { openCommandInstance } from '../open-instance.ts';
import { programFile } from '../program-files.ts';
import type { Page } from '../render/page.ts';

/** `aishell doctor` */
export function addDoctor(cli: Cli): void {
  const command = cli.program
    .command('doctor')
    .description('check everything a recovery depends on, with a remedy for each problem');
  addExamples(command, [['aishell doctor', 'is the instance protected?']]).action(() =>
    cli.run(command, {
      title: '🩺 Doctor',
      async run(run) {
        const [{ doctor }, { archiveSql }, { findConfigFile }] = await Promise.all([
          import('../../operations/doctor/doctor.ts'),
          import('../../app/init-instance.ts'),
          import('../../config/find-config.ts'),
        ]);
        const context = await openCommandInstance(run);
        const { terminal, flags } = run;
        const configFile = findConfigFile({ file: flags.config, env: terminal.env, cwd: terminal.cwd });
        const target = { programPath: programFile('bin/aishell'), configFile, name: context.instance };
        return await doctor(context, {
          signal: run.signal,
          archiveSql: facts => archiveSql(facts, target),
        });
      },
      draw: drawReport,
      exitCode: report => (report.failed > 0 ? exitCodes.FINISHED_WITH_PROBLEMS : 0),
    }),
  );
}

function drawReport(page: Page, report: DoctorReport): void {
  const width = Math.max(...report.findings.map(finding => finding.check.length));
  for (const finding of report.findings) {
    page.line(`  ${mark(page, finding)}  ${finding.check.padEnd(width)}  ${finding.detail}`);
    if (finding.remedy !== null) page.line(`          ${' '.repeat(width)}→ ${finding.remedy}`);
  }
  page.line();
  if (report.failed === 0 && report.warnings === 0)
    page.line(page.style.good(`✅ Instance '${report.instance}' is protected.`));
  else
    page.line(
      `${report.failed} failed, ${counted(report.warnings, 'warning')} of ${counted(report.findings.length, 'check')} of instance '${report.instance}'.`,
    );
}

function mark(page: Page, { status }: Finding): string {
  if (status === 'ok') return page.style.good('OK    ');
  return status === 'warning' ? page.style.warn('WARN  ') : page.style.bad('FAILED');
}
