import { Code, ConnectError } from "@connectrpc/connect";

// Each makes the one line that a caller gets: what is wrong and what to do next.
export const invalid = (message: string) => new ConnectError(message, Code.InvalidArgument);
export const notFound = (message: string) => new ConnectError(message, Code.NotFound);
export const denied = (message: string) => new ConnectError(message, Code.PermissionDenied);
export const unauthenticated = (message: string) => new ConnectError(message, Code.Unauthenticated);
export const unavailable = (message: string) => new ConnectError(message, Code.Unavailable);
export const exhausted = (message: string) => new ConnectError(message, Code.ResourceExhausted);

/** What a name of a project, user or agent is made of. */
export const nameRule = "use up to 63 of a-z, A-Z, 0-9, '.', '_' and '-', beginning with a letter or digit";

export function isName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(text);
}

/** Throws InvalidArgument for what is no name. */
export function checkName(what: string, name: string): string {
  if (isName(name)) return name;
  throw invalid(
    `${JSON.stringify(name.slice(0, 100))} is no name for ${/^[aeio]/.test(what) ? "an" : "a"} ${what}: ${nameRule}`,
  );
}

/** Canonical lower-case form of a UUID, or undefined where the text is none. */
export function parseUuid(text: string): string | undefined {
  return /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text) ? text.toLowerCase() : undefined;
}
