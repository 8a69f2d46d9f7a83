import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { delay } from '../base/abort.ts';
import { messageOf } from '../base/errors.ts';
import type { TellNote } from '../base/events.ts';
import { readJsonFile, writeJsonFile } from '../base/json-file.ts';
import { type Incident, parseIncident } from '../operations/incident/incident.ts';
import { readIncident, saveIncident, updateIncident } from '../operations/incident/incident-store.ts';
import type { Repository } from '../repository/repository.ts';
import { withKnown } from './merge-incident.ts';

export interface IncidentKeeperOptions {
  readonly instance: string;
  readonly repository: Repository;
  /** Where copies are kept until the repository has them, and as long as something is held for them. */
  readonly directory: string;
  readonly note: TellNote;
}

interface Kept {
  incident: Incident;
  isStored: boolean;
  /** Something is kept on the server for it: so is its copy. */
  isHolding: boolean;
  /** Its copies here, one after the other. */
  copying: Promise<void>;
  storing: Promise<void> | null;
  isDirty: boolean;
}

const RETRY_MS = 2000;
/** A storage that hangs is not waited for; the next attempt writes the newest state. */
const STORE_MS = 30_000;

/**
 * Keeps the incidents of an instance: on this machine at once, in the repository as soon as that answers. What others add to
 * them there stays.
 */
export class IncidentKeeper {
  readonly #options: IncidentKeeperOptions;
  readonly #kept = new Map<string, Kept>();
  readonly #stop = new AbortController();
  #isTold = false;

  constructor(options: IncidentKeeperOptions) {
    this.#options = options;
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
  }

  /** What an agent before this one has left. */
  left(): Incident[] {
    const { directory, note } = this.#options;
    const incidents: Incident[] = [];
    for (const name of readdirSync(directory)) {
      if (!/^incident_.*\.json$/.test(name)) continue;
      try {
        const incident = parseIncident(readJsonFile(join(directory, name)), `'${name}'`);
        incidents.push(incident);
        this.#kept.set(incident.id, newlyKept(incident));
      } catch (error) {
        note('warning', messageOf(error), { topic: 'incident' });
      }
    }
    return incidents;
  }

  /** Takes the next state of an incident. Resolves when its copy is on this machine's disk; the repository's follows. */
  async put(incident: Incident, options: { readonly isHolding: boolean }): Promise<void> {
    const kept = this.#kept.get(incident.id) ?? newlyKept(incident);
    this.#kept.set(incident.id, kept);
    kept.incident = incident;
    kept.isHolding = options.isHolding;
    kept.isDirty = true;
    kept.copying = kept.copying.then(() => this.#copy(incident));
    this.#startStoring(kept);
    await kept.copying;
  }

  #startStoring(kept: Kept): void {
    kept.storing ??= this.#storeNewest(kept)
      .catch((error: unknown) => this.#options.note('warning', messageOf(error), { topic: 'problem' }))
      .finally(() => {
        kept.storing = null;
        // It was put once more while this came to its end.
        if (kept.isDirty && !this.#stop.signal.aborted) this.#startStoring(kept);
      });
  }

  /** What the repository says of it now; null where it does not answer. */
  async stored(id: string): Promise<Incident | null> {
    const signal = AbortSignal.timeout(STORE_MS);
    return await readIncident(this.#options, id, { signal }).catch(() => null);
  }

  /** Resolves when the repository has what was put last. */
  async settled(id: string): Promise<void> {
    await this.#kept.get(id)?.storing;
  }

  /** Gives up what is not stored yet, but for its copies here; waits for what is under way. */
  async close(timeoutMs: number): Promise<void> {
    const timer = setTimeout(() => this.#stop.abort(), timeoutMs);
    await Promise.all([...this.#kept.values()].map(each => each.storing));
    clearTimeout(timer);
    this.#stop.abort();
  }

  async #copy(incident: Incident): Promise<void> {
    await writeJsonFile(this.#pathOf(incident.id), incident).catch((error: unknown) =>
      this.#options.note('warning', messageOf(error), { topic: 'incident' }),
    );
  }

  async #storeNewest(kept: Kept): Promise<void> {
    const { signal } = this.#stop;
    while (kept.isDirty) {
      kept.isDirty = false;
      try {
        await this.#store(kept, kept.incident);
        this.#isTold = false;
      } catch (error) {
        if (!signal.aborted) this.#tell(error);
        kept.isDirty = true;
        await delay(RETRY_MS, signal).catch(() => undefined);
        if (signal.aborted) return;
      }
      await kept.copying;
    }
    if (kept.isHolding) return;
    rmSync(this.#pathOf(kept.incident.id), { force: true });
    this.#kept.delete(kept.incident.id);
  }

  async #store(kept: Kept, incident: Incident): Promise<void> {
    const options = { signal: AbortSignal.any([this.#stop.signal, AbortSignal.timeout(STORE_MS)]) };
    if (!kept.isStored) {
      try {
        await saveIncident(this.#options, { ...incident, sequence: 1 }, options);
        kept.isStored = true;
        return;
      } catch (error) {
        // An agent before this one, or an attempt whose answer was lost, has stored it.
        if ((await this.stored(incident.id)) === null) throw error;
        kept.isStored = true;
      }
    }
    await updateIncident(this.#options, incident.id, stored => withKnown(stored, incident), options);
  }

  #tell(error: unknown): void {
    if (this.#isTold) return;
    this.#isTold = true;
    this.#options.note(
      'warning',
      `the incident is kept on this machine until the storage takes it: ${messageOf(error)}`,
      { topic: 'incident not stored' },
    );
  }

  #pathOf(id: string): string {
    return join(this.#options.directory, `${id}.json`);
  }
}

function newlyKept(incident: Incident): Kept {
  return {
    ...{ incident, isStored: false, isHolding: false, isDirty: false },
    copying: Promise.resolve(),
    storing: null,
  };
}
