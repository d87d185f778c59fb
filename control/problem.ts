import { Code, ConnectError } from "@connectrpc/connect";

// Each makes the one line that a caller gets: what is wrong and what to do next.
export const invalid = (message: string) => new ConnectError(message, Code.InvalidArgument);
export const notFound = (message: string) => new ConnectError(message, Code.NotFound);
export const denied = (message: string) => new ConnectError(message, Code.PermissionDenied);
export const unauthenticated = (message: string) => new ConnectError(message, Code.Unauthenticated);
export const unavailable = (message: string) => new ConnectError(message, Code.Unavailable);
export const exhausted = (message: string) => new ConnectError(message, Code.ResourceExhausted);

/** A name as projects, users and agents have it; throws InvalidArgument. */
export function checkName(what: string, name: string): string {
  if (/^[a-z0-9][a-z0-9._-]{0,62}$/.test(name)) return name;
  throw invalid(
    `${JSON.stringify(name)} is no name for a ${what}: use up to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit`,
  );
}

/** Canonical lower-case form of a UUID, or undefined where the text is none. */
export function parseUuid(text: string): string | undefined {
  return /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text) ? text.toLowerCase() : undefined;
}
