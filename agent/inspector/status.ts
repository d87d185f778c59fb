/** Why the engine could not answer, as a status of the public API. One place, checked to be complete. */
import { Code, ConnectError } from "@connectrpc/connect";
import { GuestError, type GuestErrorKind } from "../../vmi/index.ts";

function codeOf(kind: GuestErrorKind): Code {
  switch (kind) {
    case "no-kernel":
    case "not-running":
    case "booting":
    case "encrypted":
    case "unsupported-kernel":
    case "inconsistent":
      return Code.FailedPrecondition;
    // To the agent: attach again, then repeat the request. It never reaches a caller.
    case "kernel-changed":
      return Code.Aborted;
    case "unknown-table":
    case "unknown-column":
    case "bad-request":
      return Code.InvalidArgument;
    case "no-such-process":
      return Code.NotFound;
    case "over-budget":
      return Code.ResourceExhausted;
    case "deadline":
      return Code.DeadlineExceeded;
  }
}

/** What is thrown to the caller in place of `error`; a bug stays what it is. */
export function toStatus(error: unknown): unknown {
  return error instanceof GuestError ? new ConnectError(error.message, codeOf(error.kind)) : error;
}
