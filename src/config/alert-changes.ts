/** What is to be changed in the sections `notifications` and `alerts`; null leaves something as it is. */
export interface AlertChanges {
  /** Keys as they stand in the file. Of a channel that is there already only these are changed. */
  readonly channels: readonly { readonly name: string; readonly keys: Readonly<Record<string, unknown>> }[];
  readonly removed: readonly string[];
  readonly incidentChannels: readonly string[] | null;
  readonly failureChannels: readonly string[] | null;
  readonly failureSeverity: string | null;
  readonly successChannels: readonly string[] | null;
  readonly successFrequency: string | null;
  readonly repeatAfter: string | null;
}

export const noAlertChanges: AlertChanges = {
  channels: [],
  removed: [],
  incidentChannels: null,
  failureChannels: null,
  failureSeverity: null,
  successChannels: null,
  successFrequency: null,
  repeatAfter: null,
};
