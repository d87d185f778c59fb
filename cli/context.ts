import { randomBytes } from "node:crypto";
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { exitCode } from "./exit-code.ts";
import { CliError, usageError } from "./failure.ts";
import { configHome } from "./folders.ts";

const refused = (message: string) => new CliError(exitCode.refused, message);

/** One service and who we are there. */
export interface Context {
  url: string;
  token: string;
  /** PEM of the authority that signed the service's certificate; absent: the system's authorities. */
  ca?: string;
}

/** What `cloudvmi login` stores. */
export interface ContextFile {
  current: string;
  contexts: Record<string, Context>;
}

export function contextPath(env: NodeJS.ProcessEnv): string {
  return join(configHome(env), "cloudvmi", "config.json");
}

/** The stored contexts; none when nothing was stored yet. Throws a usage error for a file that isn't ours. */
export async function loadContexts(env: NodeJS.ProcessEnv): Promise<ContextFile> {
  const path = contextPath(env);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { current: "default", contexts: {} };
    throw error;
  }
  const repair = "correct it, or remove it and log in again";
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw usageError(`${path} is not JSON: ${repair}`, error);
  }
  if (!isContextFile(parsed)) throw usageError(`${path} is not what \`cloudvmi login\` writes: ${repair}`);
  return parsed;
}

function isContextFile(value: unknown): value is ContextFile {
  if (typeof value !== "object" || value === null) return false;
  const { current, contexts } = value as Partial<ContextFile>;
  if (typeof current !== "string" || typeof contexts !== "object" || contexts === null) return false;
  return Object.values(contexts).every(
    (context) =>
      typeof context === "object" &&
      context !== null &&
      typeof context.url === "string" &&
      typeof context.token === "string" &&
      (context.ca === undefined || typeof context.ca === "string"),
  );
}

/** Stores the contexts for this user alone: a reader at any moment sees the old file or the new one, whole. */
export async function saveContexts(env: NodeJS.ProcessEnv, file: ContextFile): Promise<string> {
  const path = contextPath(env);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${randomBytes(4).toString("hex")}`;
  try {
    await writeFile(temporary, `${JSON.stringify(file, undefined, 2)}\n`, { mode: 0o600, flag: "wx" });
    await chmod(temporary, 0o600);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
  return path;
}

/**
 * The service to talk to: the context named, or the current one, with CLOUDVMI_URL, CLOUDVMI_TOKEN and CLOUDVMI_CA (a
 * file) before it. A stored token is never sent to another URL than the one it was stored for.
 */
export async function resolveContext(env: NodeJS.ProcessEnv, name: string | undefined): Promise<Context> {
  const stored = await loadContexts(env);
  const named = name ?? (env.CLOUDVMI_CONTEXT || undefined);
  const wanted = named ?? stored.current;
  const context = Object.hasOwn(stored.contexts, wanted) ? stored.contexts[wanted] : undefined;
  if (name !== undefined && context !== undefined) return context;
  if (named !== undefined && context === undefined) {
    const known = Object.keys(stored.contexts).join(", ") || "none yet";
    throw usageError(`there is no context '${named}' (there is: ${known}): \`cloudvmi login URL --context ${named}\``);
  }
  const url = env.CLOUDVMI_URL ? normaliseUrl(env.CLOUDVMI_URL) : context?.url;
  if (url === undefined) throw refused("not logged in: `cloudvmi login URL`, or set CLOUDVMI_URL and CLOUDVMI_TOKEN");
  const same = context?.url === url ? context : undefined;
  const token = env.CLOUDVMI_TOKEN || same?.token;
  if (token === undefined) throw refused(`no token for ${url}: set CLOUDVMI_TOKEN, or \`cloudvmi login ${url}\``);
  const ca = env.CLOUDVMI_CA ? await readCa(env.CLOUDVMI_CA) : same?.ca;
  return { url, token, ...(ca === undefined ? {} : { ca }) };
}

/** "host:7443" or a URL, as the https origin of a service. Throws a usage error for anything else. */
export function normaliseUrl(text: string): string {
  const wrong = `'${text}' is not the address of a service: it looks like https://vmi.example.com:7443`;
  let url: URL;
  try {
    url = new URL(text.includes("://") ? text : `https://${text}`);
  } catch (error) {
    throw usageError(wrong, error);
  }
  if (url.protocol === "http:") {
    throw usageError(`'${text}' would send your token in the clear: the service only speaks https`);
  }
  const bare = url.pathname === "/" && url.search === "" && url.hash === "" && url.username === "";
  if (url.protocol !== "https:" || !bare || url.hostname === "") throw usageError(wrong);
  return url.origin;
}

export async function readCa(path: string): Promise<string> {
  const text = await readFile(path, "utf8");
  if (!text.includes("-----BEGIN CERTIFICATE-----")) throw usageError(`${path} holds no certificate in PEM format`);
  return text;
}
