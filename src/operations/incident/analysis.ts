import type { Incident, IncidentCulprit, IncidentRecovery, IncidentTable } from './incident.ts';

/** What a minute without the database costs. */
export interface DowntimeCost {
  readonly perMinute: number;
  /** ISO 4217. */
  readonly currency: string;
}

/** Something that makes a disaster less likely, or shorter. */
export interface Measure {
  readonly name: string;
  /** Null: it could not be found out. */
  readonly isInForce: boolean | null;
  /** What to run, where it is not in force; null where there is no command for it. */
  readonly command: string | null;
}

/** One line of what happened. */
export interface AnalysisEvent {
  /** ISO 8601 in UTC, milliseconds or better. */
  readonly at: string;
  readonly event: string;
  readonly text: string;
  /** Since the first one. */
  readonly sinceSeconds: number;
}

export interface AnalyzedTable extends IncidentTable {
  /** Of the rows that there were, 0 to 1; null where that is not known. */
  readonly share: number | null;
}

/** A time in which the database was not there as usual. */
export interface Outage {
  readonly kind: 'writes stopped' | 'server down';
  readonly from: string;
  /** Null: it goes on. */
  readonly to: string | null;
  readonly seconds: number;
}

export interface Downtime {
  readonly from: string;
  readonly to: string | null;
  /** Overlapping outages count once. */
  readonly seconds: number;
  readonly outages: readonly Outage[];
}

export interface Recommendation {
  readonly text: string;
  readonly command: string | null;
}

/** What a disaster was, from what is on record and in the log. Null is what nobody knows. */
export interface IncidentAnalysis {
  readonly instance: string;
  /** `log`: nobody noticed it when it happened, so who did it is not known. */
  readonly source: 'incident' | 'log';
  readonly incidentId: string | null;
  readonly headline: string;
  readonly severity: Incident['severity'] | null;
  readonly status: Incident['status'] | null;
  readonly resolution: string | null;
  readonly rule: Incident['rule'] | null;
  /** Of its end. */
  readonly at: string | null;
  readonly transaction: Incident['transaction'];
  /** It took no longer; null where the log does not say. */
  readonly atMostSeconds: number | null;
  readonly timeline: readonly AnalysisEvent[];
  readonly culprit: IncidentCulprit | null;
  /** Sentences, each of them from a fact. */
  readonly cause: readonly string[];
  readonly impact: {
    readonly tables: readonly AnalyzedTable[];
    readonly downtime: Downtime | null;
    readonly cost: (DowntimeCost & { readonly amount: number }) | null;
    /** Of the last recovery in place: what others had committed behind its target. */
    readonly lost: IncidentRecovery['lost'];
    /** From the last transaction that was kept to the last that is lost. */
    readonly lostSeconds: number | null;
  };
  readonly recoveries: readonly IncidentRecovery[];
  readonly measures: readonly Measure[];
  readonly recommendations: readonly Recommendation[];
  /** What this report cannot say, and why. */
  readonly unknown: readonly string[];
}
