import type { LabGuest } from "../guest.ts";

/** What a trick did, for whoever is to find it: only what it concerns. */
export interface Evidence {
  /** The process that is hidden, has been changed, or does what it should not. */
  readonly pid?: number;
  /** The process that traces `pid`. */
  readonly tracer?: number;
  /** The module whose code it is. */
  readonly module?: string;
  /** The kernel's thing that was changed or is hooked. */
  readonly symbol?: string;
  /** Where memory was changed: a pointer, code, a structure that is missing in a list. */
  readonly address?: bigint;
  /** What a pointer or jump leads to now, mostly a function of the module; or the task or module that `address` is in. */
  readonly target?: bigint;
  /** What was there before. */
  readonly original?: bigint;
  /** A file: of a program, of a library. */
  readonly path?: string;
  /** A name that is pretended, or that of a BPF program. */
  readonly name?: string;
  readonly interface?: string;
  readonly port?: number;
  /** Of an interrupt. */
  readonly vector?: number;
}

/** One thing that an intruder does to a guest, which can be undone. */
export interface Trick {
  readonly name: string;
  readonly description: string;
  /** Plays it in a guest that was booted with `tricks`. */
  start(guest: LabGuest): Promise<Evidence>;
  /** Undoes it. The guest goes on as before. */
  stop(guest: LabGuest): Promise<void>;
}
