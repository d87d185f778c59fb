import type { Command } from "commander";
import { exitCode } from "../exit-code.ts";
import { CliError, usageError } from "../failure.ts";
import { formatTime } from "../format/units.ts";
import type { Io } from "../io.ts";
import { parseLimit } from "../parse.ts";
import { action, type Session } from "../session.ts";
import { addCommand, addGroup } from "./command.ts";

export function addAuditCommands(admin: Command, io: Io): void {
  const audit = addGroup(admin, "audit", "Every decision the service has made, chained by hash.");
  addCommand(audit, "list", {
    summary: "List decisions, newest first.",
    isDefault: true,
    examples: ["admin audit", "admin audit list --limit 20", "admin audit list --after 1200 --json"],
  })
    .option("--after <sequence>", "only records after this one, oldest first", parseLimit)
    .option("--limit <rows>", "at most so many", parseLimit, 100)
    .action(
      action(io, async (session: Session, options: { after?: number; limit: number }) => {
        const { admin: service } = await session.service();
        const { records } = await service.listAudit({
          after: BigInt(options.after ?? 0),
          limit: options.limit,
          newest: options.after === undefined,
        });
        const rows = records.map((record) => ({
          sequence: record.sequence,
          time_ms: record.timeMs,
          user: record.user,
          token: record.tokenId,
          action: record.action,
          vm: record.vmUuid || null,
          incarnation: record.vmIncarnation || null,
          project: record.project || null,
          decision: record.decision,
          reason: record.reason,
          detail: record.detail,
          hash: record.hash,
        }));
        await session.printer.list(rows, [
          { name: "sequence", align: "right" },
          { name: "time_ms", title: "time", whole: true, format: (value) => formatTime(value as bigint) },
          { name: "user" },
          { name: "action" },
          { name: "decision" },
          { name: "project" },
          { name: "vm" },
          { name: "reason" },
          { name: "detail" },
        ]);
      }),
    );
  addCommand(audit, "verify", {
    summary: "Recompute the chain: an altered or removed record shows; exits 1 then.",
    description:
      "Keep the head that it prints somewhere else, and give it back later with --anchor: then a cut-off end shows too.",
    examples: ["admin audit verify", "admin audit verify --anchor 1200:9f86d081…"],
  })
    .option("--anchor <sequence:hash>", "a head that an earlier verify has printed")
    .action(
      action(io, async (session: Session, options: { anchor?: string }) => {
        const { admin: service } = await session.service();
        const answer = await service.verifyAudit(parseAnchor(options.anchor));
        const row = {
          intact: answer.intact,
          records: answer.records,
          head: `${answer.headSequence}:${answer.headHash}`,
          broken_at: answer.intact ? null : answer.brokenAt,
          problem: answer.problem || null,
        };
        await session.printer.object(row);
        if (!answer.intact) {
          throw new CliError(
            exitCode.failed,
            `the audit trail is broken at record ${answer.brokenAt}: compare the database with a backup, and treat it as evidence`,
          );
        }
      }),
    );
}

function parseAnchor(text: string | undefined): { anchorSequence?: bigint; anchorHash?: string } {
  if (text === undefined) return {};
  const match = /^(\d+):([\da-fA-F]{64})$/.exec(text);
  if (match === null)
    throw usageError(`'${text}' is not an anchor: it looks like 1200:9f86… as \`admin audit verify\` prints it`);
  return { anchorSequence: BigInt(match[1]!), anchorHash: match[2]!.toLowerCase() };
}
