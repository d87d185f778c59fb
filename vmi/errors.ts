/** Why a guest, or a question about it, could not be answered. Closed: whoever maps it to a status is checked to be complete. */
export type GuestErrorKind =
  /** No Linux kernel in memory: firmware, a boot loader, another system, or switched off. */
  | "no-kernel"
  /** Remains of kernels are there, but none that can be shown to be running. */
  | "not-running"
  /** A kernel was found and is not far enough to be asked. */
  | "booting"
  /** RAM reads as noise: encrypted by the processor. */
  | "encrypted"
  /** The kernel lacks something that the engine needs (symbols, types). */
  | "unsupported-kernel"
  /** The kernel that was attached to is gone: attach again. */
  | "kernel-changed"
  /** Guest structures contradict themselves so that no answer can be given. */
  | "inconsistent"
  | "unknown-table"
  | "unknown-column"
  | "bad-request"
  | "no-such-process"
  | "over-budget"
  | "deadline";

/** An expected failure. The message is one line that says what and, where something can be done, what to do. */
export class GuestError extends Error {
  readonly kind: GuestErrorKind;
  constructor(kind: GuestErrorKind, message: string) {
    super(message);
    this.name = "GuestError";
    this.kind = kind;
  }
}

/** The kernel was found and carries no types that can be used: they have to be supplied. */
export class TypesMissing extends GuestError {
  readonly buildId: string;
  constructor(buildId: string, message: string) {
    super("unsupported-kernel", message);
    this.buildId = buildId;
  }
}
