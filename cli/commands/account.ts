import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { type Context, loadContexts, normaliseUrl, readCa, saveContexts } from "../context.ts";
import { exitCode } from "../exit-code.ts";
import { CliError, usageError } from "../failure.ts";
import { formatTime } from "../format/units.ts";
import type { Io } from "../io.ts";
import { parseLifetime } from "../parse.ts";
import type { ListColumn } from "../print.ts";
import { askHidden, readAll } from "../prompt.ts";
import { action, type CommonOptions, type Session } from "../session.ts";
import { addCommand, addGroup, groups } from "./command.ts";

interface LoginOptions extends CommonOptions {
  tokenFile?: string;
  tokenStdin?: boolean;
  ca?: string;
}

export function addAccountCommands(program: Command, io: Io): void {
  addCommand(
    program,
    "login",
    {
      summary: "Remember a service and your token for it.",
      description:
        "The token is tried before it is stored, in a file that only you can read. It comes from --token-file,\n" +
        "--token-stdin, CLOUDVMI_TOKEN or a hidden prompt; never from the command line, where others could see it.\n" +
        "A service with its own authority needs that authority's certificate (ca.pem, from its operator) once.",
      examples: [
        "login https://vmi.example.com:7443 --ca ca.pem",
        "login https://127.0.0.1:7443 --ca ca.pem --token-file admin.token --context operator",
      ],
    },
    groups.account,
  )
    .argument("<url>", "address of the service, such as https://vmi.example.com:7443")
    .option("--token-file <file>", "read the token from a file")
    .option("--token-stdin", "read the token from the standard input")
    .option("--ca <file>", "certificate (PEM) of the authority that signed the service's certificate")
    .action(action(io, login));

  addCommand(
    program,
    "logout",
    {
      summary: "Forget the stored token.",
      description: "The token stays valid at the service: `cloudvmi token revoke ID` ends it.",
      examples: ["logout", "logout --context operator"],
    },
    groups.account,
  ).action(action(io, logout));

  addCommand(
    program,
    "whoami",
    { summary: "Show who you are, and your role in each project.", examples: ["whoami", "whoami --json"] },
    groups.account,
  ).action(action(io, whoAmI));

  addTokenCommands(program, io);
}

async function login(session: Session, options: LoginOptions, url: string): Promise<void> {
  const { io, printer } = session;
  const origin = normaliseUrl(url);
  const ca = options.ca ?? io.env.CLOUDVMI_CA;
  const authority = ca === undefined || ca === "" ? {} : { ca: await readCa(ca) };
  const context: Context = { url: origin, token: await tokenFor(io, options), ...authority };
  const { connect } = await import("../../sdk/index.ts");
  const service = session.resources.use(connect(context));
  const me = await service.whoAmI();
  const stored = await loadContexts(io.env);
  const name = options.context ?? (io.env.CLOUDVMI_CONTEXT || "default");
  const path = await saveContexts(io.env, { current: name, contexts: { ...stored.contexts, [name]: context } });
  const row = { user: me.user, url: origin, context: name, file: path };
  await printer.done(`Logged in to ${origin} as ${me.user} (stored in ${path}, context '${name}').`, row);
}

async function tokenFor(io: Io, options: LoginOptions): Promise<string> {
  if (options.tokenFile !== undefined && options.tokenStdin)
    throw usageError("--token-file and --token-stdin: only one");
  const token = await tokenText(io, options);
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw usageError("that is not a token: it is one word of printable characters, as `token create` shows it");
  }
  return token;
}

async function tokenText(io: Io, options: LoginOptions): Promise<string> {
  if (options.tokenFile !== undefined) return (await readFile(options.tokenFile, "utf8")).trim();
  if (options.tokenStdin) return (await readAll(io)).trim();
  if (io.env.CLOUDVMI_TOKEN) return io.env.CLOUDVMI_TOKEN.trim();
  if (!io.stdin.isTTY) throw usageError("no token: give --token-file FILE, --token-stdin or CLOUDVMI_TOKEN");
  return (await askHidden(io, "Token: ")).trim();
}

async function logout({ io, common, printer }: Session): Promise<void> {
  const stored = await loadContexts(io.env);
  const name = common.context ?? (io.env.CLOUDVMI_CONTEXT || stored.current);
  if (!Object.hasOwn(stored.contexts, name)) {
    throw new CliError(exitCode.refused, `not logged in (no context '${name}'): nothing to forget`);
  }
  const { [name]: gone, ...contexts } = stored.contexts;
  // The name stays the current one, of nobody: who has logged out must not go on as another.
  await saveContexts(io.env, { current: stored.current, contexts });
  const others = Object.keys(contexts);
  const left = others.length === 0 ? "" : ` Still logged in: --context ${others.join(", ")}.`;
  await printer.done(`Forgot the token for ${gone!.url} (context '${name}').${left}`, {
    context: name,
    url: gone!.url,
  });
}

async function whoAmI(session: Session): Promise<void> {
  const service = await session.service();
  const me = await service.whoAmI();
  const { printer } = session;
  const row = {
    user: me.user,
    operator: me.operator,
    memberships: me.memberships.map(({ project, role }) => ({ project, role })),
    token: me.tokenId,
    token_expires_ms: me.tokenExpiresMs === 0n ? null : me.tokenExpiresMs,
  };
  if (printer.json) return printer.object(row);
  await printer.object(
    {
      ...row,
      memberships: me.memberships.map(({ project, role }) => `${role} of ${project}`),
      expires: row.token_expires_ms,
    },
    [
      { name: "user" },
      { name: "operator", format: (value) => (value === true ? "yes" : "no") },
      { name: "memberships" },
      { name: "token" },
      { name: "expires", format: (value) => formatTime(value as bigint) },
    ],
  );
}

/** A token's record, as the API has it. */
export interface TokenRecord {
  id: string;
  user: string;
  note: string;
  createdMs: bigint;
  expiresMs: bigint;
  revokedMs: bigint;
  lastUsedMs: bigint;
}

const orNull = (milliseconds: bigint) => (milliseconds === 0n ? null : milliseconds);

export function tokenRow(token: TokenRecord) {
  const now = BigInt(Date.now());
  const expired = token.expiresMs !== 0n && token.expiresMs <= now;
  return {
    id: token.id,
    user: token.user,
    note: token.note,
    status: token.revokedMs !== 0n ? "revoked" : expired ? "expired" : "valid",
    created_ms: token.createdMs,
    expires_ms: orNull(token.expiresMs),
    revoked_ms: orNull(token.revokedMs),
    last_used_ms: orNull(token.lastUsedMs),
  };
}

const time = (value: unknown) => formatTime(value as bigint);

export const tokenColumns: ListColumn[] = [
  { name: "id", whole: true },
  { name: "user" },
  { name: "status" },
  { name: "created_ms", title: "created", format: time },
  { name: "expires_ms", title: "expires", format: time },
  { name: "last_used_ms", title: "last used", format: time },
  { name: "note" },
];

/** Shows a new token: the secret alone on stdout, so that it can be piped into a file. */
export async function printNewToken(session: Session, created: { token?: TokenRecord; secret: string }): Promise<void> {
  if (session.printer.json) {
    return session.printer.object({ ...(created.token ? tokenRow(created.token) : {}), secret: created.secret });
  }
  await session.printer.lines([created.secret]);
  if (session.io.err.isTerminal) await session.printer.note("this is shown once: keep it where only you can read it");
}

function addTokenCommands(program: Command, io: Io): void {
  const token = addGroup(program, "token", "Your own tokens: create, list, revoke.", groups.account);
  addCommand(token, "create", {
    summary: "Create a token of your own; prints its secret, once.",
    examples: ["token create --note laptop --lifetime 30d", "token create --lifetime 12h > ci.token"],
  })
    .option("--note <text>", "what it is for", "")
    .option("--lifetime <time>", "how long it is valid: hours or days, up to 366d", parseLifetime, 30 * 24)
    .action(
      action(io, async (session: Session, options: { note: string; lifetime: number }) => {
        const { account } = await session.service();
        await printNewToken(
          session,
          await account.createToken({ note: options.note, lifetimeHours: options.lifetime }),
        );
      }),
    );
  addCommand(token, "list", { summary: "List your tokens, without their secrets.", examples: ["token list"] }).action(
    action(io, async (session: Session) => {
      const { account } = await session.service();
      const { tokens } = await account.listTokens({});
      await session.printer.list(tokens.map(tokenRow), tokenColumns);
    }),
  );
  addCommand(token, "revoke", {
    summary: "End a token at once.",
    examples: ["token revoke 7f3a91c25d08e6b4"],
  })
    .argument("<id>", "the token's id, from `token list`")
    .action(
      action(io, async (session: Session, _options: CommonOptions, id: string) => {
        const { account } = await session.service();
        await account.revokeToken({ id });
        await session.printer.done(`Token ${id} is revoked.`, { id, status: "revoked" });
      }),
    );
}
