import type { GuestHandle, TableSpec } from "../sdk/index.ts";
import { exitCode, worst } from "./exit-code.ts";
import { CliError, describeFailure, stackOf } from "./failure.ts";
import { sanitise } from "./format/sanitise.ts";
import { startProgress } from "./progress.ts";
import type { Session } from "./session.ts";

/** A guest that a command reads, and what people call it. */
export interface NamedGuest {
  /** Of the VM; empty in local mode, where there is only one. */
  name: string;
  host: string;
  /** Connects on first use: one VM out of reach doesn't stop the others. */
  open(): Promise<GuestHandle>;
  /** The tables, where there is no guest and they are the same for all. */
  tables?: (() => Promise<TableSpec[]>) | undefined;
}

/** Where the guests come from: the service, or this machine. The commands don't know. */
export interface GuestSource {
  readonly kind: "service" | "local";
  /** The one guest that a command names. */
  one(session: Session, vm: string | undefined, options: object): Promise<GuestHandle>;
  /** The guests named, or all of the caller's when none is. */
  many(session: Session, vms: readonly string[], options: object): Promise<NamedGuest[]>;
}

/** A whole fleet is asked at once, a slow host doesn't hold up the others, and no host is flooded. */
const atOnce = 16;

export interface Answer<T> {
  guest: NamedGuest;
  value: T;
}

/**
 * Asks every guest, many at once, and returns the answers in the order of the guests. A failure of one of several is
 * a line on stderr, and the others still answer: `settle` afterwards fails with the most specific code.
 */
export async function askAll<T>(
  session: Session,
  guests: readonly NamedGuest[],
  ask: (handle: GuestHandle, guest: NamedGuest) => Promise<T>,
): Promise<{ answers: Answer<T>[]; settle(): void }> {
  if (guests.length === 1) {
    const [guest] = guests;
    using _progress = startProgress(session.io, `reading ${sanitise(guest!.name) || "the guest"} …`);
    return { answers: [{ guest: guest!, value: await ask(await guest!.open(), guest!) }], settle() {} };
  }
  const outcomes: ({ value: T } | { error: unknown } | undefined)[] = guests.map(() => undefined);
  let next = 0;
  let finished = 0;
  {
    using progress = startProgress(session.io, `asking ${guests.length} VMs …`);
    const work = async () => {
      while (next < guests.length && !session.io.signal.aborted) {
        const at = next++;
        const guest = guests[at]!;
        try {
          outcomes[at] = { value: await ask(await guest.open(), guest) };
        } catch (error) {
          outcomes[at] = { error };
        }
        progress.update(`${++finished} of ${guests.length} VMs have answered …`);
      }
    };
    await Promise.all(Array.from({ length: Math.min(atOnce, guests.length) }, work));
  }
  session.io.signal.throwIfAborted();
  const answers: Answer<T>[] = [];
  const failed: ReturnType<typeof describeFailure>[] = [];
  for (const [at, outcome] of outcomes.entries()) {
    const guest = guests[at]!;
    if (outcome === undefined) continue;
    if ("value" in outcome) {
      answers.push({ guest, value: outcome.value });
      continue;
    }
    const failure = describeFailure(outcome.error);
    failed.push(failure);
    await session.printer.note(`${guest.name}${guest.host === "" ? "" : ` on ${guest.host}`}: ${failure.line}`);
    if (session.common.verbose) await session.io.err.write(`${stackOf(outcome.error)}\n`);
  }
  return {
    answers,
    settle() {
      if (failed.length === 0) return;
      const code = worst(failed.map((failure) => failure.exit)) || exitCode.failed;
      throw new CliError(code, `${failed.length} of ${guests.length} VMs could not be read (see above)`);
    },
  };
}
