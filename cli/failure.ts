import { Code, ConnectError } from "@connectrpc/connect";
import { CommanderError } from "commander";
import { type ExitCode, exitCode, exitCodeOf } from "./exit-code.ts";
import { sanitise } from "./format/sanitise.ts";

/** A failure the CLI itself finds. The message is one line: what is wrong, and what to do next. */
export class CliError extends Error {
  readonly exit: ExitCode;

  constructor(exit: ExitCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "CliError";
    this.exit = exit;
  }
}

export const usageError = (message: string, cause?: unknown) => new CliError(exitCode.usage, message, { cause });

export interface Failure {
  exit: ExitCode;
  /** Harmless for a terminal, without line breaks. */
  line: string;
}

/** What TLS says of a certificate that no authority known here has signed. */
const untrusted = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "CERT_SIGNATURE_FAILURE",
]);

const untrustedAdvice =
  "the service's certificate is not signed by an authority this machine knows: copy ca.pem from the service's state " +
  "directory by a way you trust, then `cloudvmi login URL --ca ca.pem`";

/** What to do about a status whose message comes from the service; it follows the message after a colon. */
const advice: Partial<Record<Code, string>> = {
  [Code.Unauthenticated]: "log in with `cloudvmi login URL`, or ask your operator for a new token",
  [Code.ResourceExhausted]: "ask for less at once, or try again later",
  [Code.DeadlineExceeded]: "the guest or its host is slow: try again, or ask for less at once",
  [Code.Internal]: "this is a defect: please report it with what `--verbose` prints",
  [Code.Unknown]: "this is a defect: please report it with what `--verbose` prints",
};

/** Any error as the one line and the exit code that the user gets. */
export function describeFailure(error: unknown): Failure {
  const certificate = causes(error).find((cause) => untrusted.has(errorCode(cause)));
  if (certificate !== undefined) return { exit: exitCode.failed, line: untrustedAdvice };
  if (error instanceof CliError) return { exit: error.exit, line: oneLine(error.message) };
  if (error instanceof CommanderError) {
    return { exit: error.exitCode === 0 ? exitCode.done : exitCode.usage, line: commanderLine(error.message) };
  }
  if (error instanceof ConnectError) {
    const line = oneLine(error.rawMessage) || `the service answered ${Code[error.code]}`;
    // A text with a colon and one of these in it has its advice already.
    const advised = /:.*(?:cloudvmi \w|\bWHERE\b|\bfewer\b|\btry again\b)/.test(line);
    const hint = advised ? undefined : error.code === Code.Unavailable ? unavailableHint(error) : advice[error.code];
    return { exit: exitCodeOf(error.code), line: hint === undefined ? line : `${line}: ${hint}` };
  }
  const system = systemLine(error);
  if (system !== undefined) return { exit: exitCode.failed, line: system };
  return { exit: exitCode.failed, line: oneLine(error instanceof Error ? error.message : String(error)) };
}

/** The whole story for `--verbose`: the stack of the error and of its causes. */
export function stackOf(error: unknown): string {
  return causes(error)
    .map((cause) => (cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)))
    .map((stack) => stack.split("\n").map(sanitise).join("\n"))
    .join("\ncaused by: ");
}

function oneLine(message: string): string {
  return sanitise(message.replaceAll(/\s*\n\s*/g, " ").trim());
}

/** Commander says "error: …", which becomes ours, and puts suggestions on lines of their own. */
function commanderLine(message: string): string {
  return oneLine(message.replace(/^error: /, ""));
}

function unavailableHint(error: ConnectError): string | undefined {
  const codes = causes(error).map(errorCode);
  if (codes.includes("ECONNREFUSED")) return "is the service running there, and is the port right?";
  if (codes.includes("ENOTFOUND")) return "check the host's name";
  return undefined;
}

const systemMeaning: Record<string, string> = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  EPERM: "not permitted (as an ordinary user? Try as root)",
  EISDIR: "is a directory",
  ENOTDIR: "a part of the path is not a directory",
  ENOSPC: "no space left on the device",
  EADDRINUSE:
    "the address is in use: is another CloudVMI running? Choose another (--listen of up, or listen in the configuration)",
  ECONNREFUSED: "connection refused",
};

/** What the operating system refused, without the name of the system call. */
function systemLine(error: unknown): string | undefined {
  const meaning = systemMeaning[errorCode(error)];
  if (meaning === undefined || !(error instanceof Error)) return undefined;
  const about = error as Error & { path?: string; address?: string; port?: number };
  const subject = about.path ?? (about.address === undefined ? undefined : `${about.address}:${about.port}`);
  return subject === undefined ? oneLine(error.message) : oneLine(`${subject}: ${meaning}`);
}

/** The error and what caused it, nearest first. */
function causes(error: unknown): unknown[] {
  const chain: unknown[] = [];
  for (let at = error; at !== undefined && at !== null && chain.length < 8; ) {
    chain.push(at);
    at = at instanceof Error ? at.cause : undefined;
  }
  return chain;
}

function errorCode(error: unknown): string {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  return typeof code === "string" ? code : "";
}
