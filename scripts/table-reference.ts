// Writes docs/tables.md, the table reference, from the tables' own specs: npm run generate.
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Table, tables } from "../vmi/index.ts";
import { code, prose } from "./markdown.ts";

/** Subjects in the order of the reference, and what the names of their tables are like; the first that fits counts. */
const subjects: readonly (readonly [title: string, names: RegExp])[] = [
  ["Processes", /^process|^(?:kernel_threads|ptrace_relations|shell_history|cgroups|users_seen)$/],
  ["Files", /file|^mounts$|^deleted_executables$/],
  ["Network", /^(?:listening_ports|connections|routes|arp_cache|unix_sockets)$|^interface_/],
  [
    "Kernel code, hooks and tables",
    /hook|probe|tracepoint|bpf|timers|notifier|^kernel_modules$|_table$|^kernel_symbols$|module/,
  ],
  ["Checks", /^(?:findings|checks)$/],
  ["System", /./],
];

const permissions: Record<Table["permission"], string> = {
  table: "`table`",
  read: "`read`, as it shows contents of memory",
};
const costs: Record<Table["cost"], string> = {
  constant: "constant: the same whatever the guest does",
  walk: "walk: follows the kernel's lists",
  scan: "scan: looks through memory",
};

const introduction = `# Tables

<!-- Generated from the tables' specs (vmi/tables) by scripts/table-reference.ts: npm run generate. -->

What each table says and where it comes from. How to ask is in the [tenant guide](tenant-guide.md#tables), and what absent
cells mean [too](tenant-guide.md#absent-cells-retries-incomplete-answers).

- **Key** columns make the question cheaper: with \`--where pid=1\` only that process is looked at, if \`pid\` is a key.
- **Permission** is the action that a [role](tenant-guide.md#roles) must grant.
- **Reads** are the kernel's structures and variables, with the kernel versions that each way of reading serves where
  they differ, and the commit that made the change. Structures are told apart by their members, never by the version.
- **Examples** are statements in SQLite's language. The tests run them.

Every table also reads the kernel's symbols and types; see [how a guest is attached to](design.md#how-a-guest-is-attached-to).
`;

/** The whole reference, as Markdown. */
export function tableReference(catalogue: readonly Table[] = tables): string {
  const groups = subjects
    .map(([title]) => ({ title, members: catalogue.filter(({ name }) => subjectOf(name) === title) }))
    .filter(({ members }) => members.length > 0);
  for (const { members } of groups) members.sort((a, b) => (a.name < b.name ? -1 : 1));
  const index = groups.map(
    ({ title, members }) => `| ${title} | ${members.map(({ name }) => `[${name}](#${name})`).join(", ")} |`,
  );
  return [
    introduction,
    "| Subject | Tables |\n|---|---|",
    ...index,
    ...groups.flatMap(({ title, members }) => [`\n## ${title}`, ...members.map(section)]),
    "",
  ].join("\n");
}

function subjectOf(name: string): string {
  return subjects.find(([, names]) => names.test(name))![0];
}

function section(table: Table): string {
  const { name, description, columns, permission, cost, required, reads, examples } = table;
  const rows = Object.entries(columns).map(
    ([column, spec]) => `| \`${column}\` | ${spec.kind}${spec.key ? ", key" : ""} | ${prose(spec.description)} |`,
  );
  const facts = [
    `- Permission: ${permissions[permission]}`,
    `- Cost: ${costs[cost]}`,
    ...(required.length === 0 ? [] : [`- Must be constrained: ${required.map(code).join(" or ")}`]),
    `- Reads: ${reads.map(prose).join("; ")}`,
  ];
  return [
    `\n### ${name}\n`,
    `${prose(description)}.\n`.replace(/\.+\n$/, ".\n"),
    "| Column | Type | Meaning |\n|---|---|---|",
    ...rows,
    "",
    ...facts,
    "\n```sql",
    ...examples.map((example) => `${example.replace(/;$/, "")};`),
    "```",
  ].join("\n");
}

if (process.argv[1] === import.meta.filename)
  writeFileSync(join(resolve(import.meta.dirname, ".."), "docs/tables.md"), tableReference());
