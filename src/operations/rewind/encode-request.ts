import type { RecoveryRequest } from '../restore/recovery-request.ts';

export interface RewindRequest {
  readonly target: RecoveryRequest;
  readonly timeline: number;
}

/** A request as one line of JSON, which is equal for equal requests. */
export function encodeRequest(request: RewindRequest): string {
  return JSON.stringify(request, (_, value: unknown) =>
    typeof value === 'bigint' ? { bigint: String(value) } : value,
  );
}

/** The inverse. */
export function decodeRequest(text: string): RewindRequest {
  return JSON.parse(text, (_, value: unknown) =>
    typeof value === 'object' && value !== null && 'bigint' in value && typeof value.bigint === 'string'
      ? BigInt(value.bigint)
      : value,
  ) as RewindRequest;
}
