// Writes docs/checks.md, the reference of the checks, from the checks' own specs: npm run generate.
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Check, checks, type Severity } from "../vmi/index.ts";
import { code, prose } from "./markdown.ts";

/** Worst first, with what each means. */
const severities: readonly (readonly [severity: Severity, meaning: string])[] = [
  ["critical", "the kernel is under somebody's control, or hides something"],
  ["high", "hardly any honest program does this"],
  ["medium", "what an intruder does, and some software too"],
  ["low", "worth a look"],
  ["info", "no alarm, such as tracing that is on; `cloudvmi checks` counts it, and shows it with `--all`"],
];

const costs: Record<Check["cost"], string> = {
  constant: "constant: the same whatever the guest does",
  walk: "walk: follows the kernel's lists",
  scan: "scan: looks through much memory, such as all of the kernel's code",
};

const introduction = `# Checks

<!-- Generated from the checks' specs (vmi/checks) by scripts/check-reference.ts: npm run generate. -->

What each check compares, what it can't see, and how to confirm what it finds. How to run them is in the
[tenant guide](tenant-guide.md#checks), and why they are made so in the [design](design.md#checks). \`cloudvmi checks --explain
CHECK\` prints the same of one check, and the table [checks](tables.md#checks) has it for SQL.

A check reports a finding only when it has seen it twice, with everything read anew in between. A severity is that of a
check's worst findings; some of its findings may be milder:
`;

/** The whole reference, as Markdown. */
export function checkReference(catalogue: readonly Check[] = checks): string {
  const groups = severities.map(([severity]) =>
    catalogue.filter((check) => check.severity === severity).sort((a, b) => (a.name < b.name ? -1 : 1)),
  );
  return [
    introduction,
    "| Severity | Meaning | Checks |\n|---|---|---|",
    ...severities.map(([severity, meaning], at) => {
      const links = groups[at]!.map(({ name }) => `[${name}](#${name})`).join(", ");
      return `| ${severity} | ${meaning} | ${links || "-"} |`;
    }),
    ...groups.flat().map(section),
    "",
  ].join("\n");
}

function section({ name, severity, cost, compares, misses, confirm, reads }: Check): string {
  return [
    `\n## ${name}\n`,
    `${prose(compares)}\n`,
    `- Severity: ${severity}`,
    `- Cost: ${costs[cost]}`,
    `- Misses: ${prose(misses)}`,
    `- To confirm: ${prose(confirm)}`,
    `- Reads: ${reads.map((read) => (/^[\w.]+$/.test(read) ? code(read) : prose(read))).join(", ")}`,
  ].join("\n");
}

if (process.argv[1] === import.meta.filename)
  writeFileSync(join(resolve(import.meta.dirname, ".."), "docs/checks.md"), checkReference());
