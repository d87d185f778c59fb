// What the fake service's VMs have been found to have; a test may change it.

type Cells = Record<string, string | number | null>;

export const checkColumns = ["name", "severity", "cost", "compares", "misses", "confirm", "reads"];
export const checkRows: Cells[] = ["system-call-table", "inventory"].map((name) => ({
  name,
  severity: name === "inventory" ? "info" : "critical",
  cost: "walk",
  compares: `What ${name} compares, in words that are more than fit on one line of a terminal, or of a file with lines of 100.`,
  misses: "Much.",
  confirm: "By hand.",
  reads: "sys_call_table",
}));

const shownColumns = ["check_name", "severity", "what", "place", "evidence", "expected", "pid", "address"];
export const findingColumns = shownColumns.concat(
  "symbol",
  "module",
  "code_address",
  "code",
  "original_code",
  "identity",
);

const nothing = Object.fromEntries(findingColumns.map((name) => [name, null]));
const loaded = (module: string): Cells => ({
  ...nothing,
  check_name: "inventory",
  severity: "info",
  what: `module ${module} is loaded`,
  place: `module ${module}`,
  evidence: `module ${module} is loaded`,
  expected: "what the baseline has",
  identity: `module ${module}`,
});

export const hooked: Cells = {
  ...nothing,
  check_name: "system-call-table",
  severity: "critical",
  what: "system call 62 (kill) goes to lab_kill of module lab_tricks",
  place: "sys_call_table[62]",
  evidence: "0xffffffffc0401000",
  expected: "0xffffffff81098760, __x64_sys_kill",
  address: "0xffffffffc0401000",
  symbol: "lab_kill",
  module: "lab_tricks",
  code_address: "0xffffffff81098760",
  code: "48b8001040c0ffffffff50c3",
  original_code: "f30f1efa0f1f44000006",
  identity: "62",
};

/** By VM: what is found of web1; others are clean. */
export const found: { web1: Cells[] } = { web1: [hooked, loaded("loop")] };

/** Why the findings of web1 are incomplete, where they are. */
export const incomplete: { web1: string[] } = { web1: [] };

export { loaded };

export function findingRows(uuid: string): Cells[] {
  return uuid.endsWith("1") ? found.web1 : [loaded("loop")];
}

export const findingNotes = (uuid: string) => (uuid.endsWith("1") ? incomplete.web1 : []);
