import { Code } from "@connectrpc/connect";

/** What the process exits with. The numbers are part of the interface: scripts branch on them. */
export const exitCode = {
  done: 0,
  failed: 1,
  /** The command line, a configuration file or a request is wrong: the same call can't succeed. */
  usage: 2,
  /** Not allowed, not logged in, or not there: the service does not say which of a VM that isn't yours. */
  refused: 3,
  /** The guest can't be read or understood now: no Linux, still booting, encrypted, or it broke the reader. */
  guest: 4,
  /** The checks found something above severity info. Everything went well; whoever gates on it should stop. */
  finding: 5,
} as const;

export type ExitCode = (typeof exitCode)[keyof typeof exitCode];

/** Every status of the service has its exit code: a missing row is a type error. */
const ofStatus: Record<Code, ExitCode> = {
  [Code.InvalidArgument]: exitCode.usage,
  [Code.OutOfRange]: exitCode.usage,
  [Code.NotFound]: exitCode.refused,
  [Code.PermissionDenied]: exitCode.refused,
  [Code.Unauthenticated]: exitCode.refused,
  [Code.FailedPrecondition]: exitCode.guest,
  [Code.DataLoss]: exitCode.guest,
  [Code.Aborted]: exitCode.failed,
  [Code.AlreadyExists]: exitCode.failed,
  [Code.Canceled]: exitCode.failed,
  [Code.DeadlineExceeded]: exitCode.failed,
  [Code.Internal]: exitCode.failed,
  [Code.ResourceExhausted]: exitCode.failed,
  [Code.Unavailable]: exitCode.failed,
  [Code.Unimplemented]: exitCode.failed,
  [Code.Unknown]: exitCode.failed,
};

export function exitCodeOf(status: Code): ExitCode {
  return ofStatus[status];
}

/** The code of several failures at once: the most specific one (5 before 4 before 3 before 2 before 1). */
export function worst(codes: Iterable<ExitCode>): ExitCode {
  let highest: ExitCode = exitCode.done;
  for (const code of codes) if (code > highest) highest = code;
  return highest;
}
