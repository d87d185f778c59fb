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

/** The kernel was found and lacks types, or symbols, that can be used: a file has to supply them. */
export class FileMissing extends GuestError {
  readonly buildId: string;
  /** An ISF has both, BTF types only. */
  readonly lacking: "types" | "symbols";
  constructor(buildId: string, lacking: "types" | "symbols", message: string) {
    super("unsupported-kernel", message);
    this.buildId = buildId;
    this.lacking = lacking;
  }
}
