import type { Halves } from "../bytes/address.ts";
import { checks } from "../checks/index.ts";
import { type CheckFinding, runChecks } from "../checks/run.ts";
import { CELL, type TextColumn } from "./columns.ts";
import { functionColumns, pushFunction } from "./function-columns.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a finding of the checks. The columns that SQL has words for are called check_name and place. */
export const findings = defineTable({
  name: "findings",
  description:
    "What is not as it should be: one row a finding of the checks (docs/checks.md), seen twice. No row is an answer too",
  columns: {
    check_name: text("The check that found it", { key: true }),
    severity: text("critical, high, medium, low, or info for what is no alarm"),
    what: text("What was found, in one line"),
    place: text("Where"),
    evidence: text("What was seen"),
    expected: text("What an untouched system has there"),
    pid: integer("The process that it is about; not applicable for the kernel"),
    address: text("Address that it leads to or lies at"),
    ...functionColumns("the address"),
    code_address: text("Where the code is that was found"),
    code: text("Its bytes, hexadecimal"),
    original_code: text("The bytes that should be there, hexadecimal; not applicable where that is not known"),
    identity: text("Tells it from the check's other findings, the same each time and after a reboot: for baselines"),
  },
  cost: "scan",
  reads: ["What each check reads: docs/checks.md"],
  examples: [
    "SELECT check_name, severity, what, place FROM findings WHERE severity <> 'info'",
    "SELECT f.what, p.path, p.start_time FROM findings f JOIN processes p USING (vm, pid)",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const names = context.textKeys("check_name");
    const chosen = checks.filter(({ name }) => names?.has(name) ?? true);
    const { findings: found, notes, retried } = runChecks(chosen, kernel, budget);
    context.retried(retried);
    for (const note of notes) context.incomplete(note);
    for (const finding of found) {
      out.check_name?.push(finding.check.name);
      out.severity?.push(finding.severity);
      out.what?.push(finding.what);
      out.place?.push(finding.where);
      out.evidence?.push(finding.evidence);
      out.expected?.push(finding.expected);
      out.pid?.pushOr(finding.pid, CELL.notApplicable);
      pushAddress(out.address, finding.address);
      if (finding.address !== undefined) pushFunction(out, kernel, finding.address, budget);
      else for (const column of [out.symbol, out.module]) column?.absent(CELL.notApplicable);
      pushCode(out, finding);
      out.identity?.push(finding.identity);
      if (!context.row()) return;
    }
  },
});

function pushAddress(column: TextColumn | undefined, at: Halves | undefined): void {
  if (at === undefined) column?.absent(CELL.notApplicable);
  else column?.pushAddress(at.hi, at.lo);
}

interface CodeWriters {
  readonly code_address: TextColumn | undefined;
  readonly code: TextColumn | undefined;
  readonly original_code: TextColumn | undefined;
}

function pushCode(out: CodeWriters, { code }: CheckFinding): void {
  pushAddress(out.code_address, code?.at);
  pushHex(out.code, code?.found);
  pushHex(out.original_code, code?.original);
}

function pushHex(column: TextColumn | undefined, bytes: Uint8Array | undefined): void {
  if (bytes === undefined) column?.absent(CELL.notApplicable);
  else column?.push(Buffer.from(bytes).toString("hex"));
}
