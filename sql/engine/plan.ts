// From SQLite's plan of a statement to what has to be read for it. SQLite says for each use of a table which constraints it
// will look rows up by; those with values that are known before anything is read go to where the rows come from. A constraint
// that is passed on must never lose a row, but may leave too many: all are checked again, so a doubtful one is simply kept here.
import { type SqlTable, vmColumn } from "./schema.ts";

/** A value of SQLite. A blob's bytes are never looked at. */
export type Value = bigint | number | string | null | Blob;
export interface Blob {
  readonly blob: true;
}

/** A constraint by which SQLite will look up rows: the column equals a value, or one of several. */
export interface Lookup {
  /** 0 is `vm`, then the table's own. */
  readonly column: number;
  readonly isList: boolean;
  /** When it is written in the statement; of a list, see `listValues`. */
  readonly value: Value | undefined;
  /** Rows that do not meet it are left out exactly as SQLite would, so that it need not. */
  readonly isExact: boolean;
}

/** One use of a table, as SQLite may run it. */
export interface Use {
  readonly id: number;
  readonly table: SqlTable;
  /** Columns that are looked at, as in `Lookup.column`, without `vm`. */
  readonly columns: readonly number[];
  readonly lookups: readonly Lookup[];
  /** Rows after which no more are asked for, where nothing but the lookups decides which they are. */
  readonly limit: number | undefined;
  /** Columns by which rows with the same values follow each other; none: in any order. */
  readonly grouped: readonly number[];
}

/** What is to be read of a table. */
export interface Need {
  readonly table: string;
  readonly columns: readonly string[];
  readonly where: readonly { readonly column: string; readonly values: readonly string[] }[];
  /** Values of the column `vm`; undefined: every VM. */
  readonly vms: readonly string[] | undefined;
  /** 0: no limit. */
  readonly limit: number;
}

/** A use in the final plan with what is known of its values. */
export interface PlannedUse {
  readonly use: Use;
  /** Of SQLite. Uses share one when they are alternatives of an OR: SQLite then tells their rows apart by number. */
  readonly cursor: number;
  /** Undefined when its table can only be read for values that the statement finds while it runs. */
  readonly need: Need | undefined;
}

/** A line of a program of SQLite's virtual machine, as EXPLAIN shows it. */
export interface Instruction {
  readonly opcode: string;
  readonly p1: number;
  readonly p2: number;
  readonly p3: number;
  readonly p4: string | undefined;
}

/**
 * The uses that a program makes of the tables, each with what it needs. Virtual tables of SQLite's own, as json_each, number
 * their plans as they like: `isOurs` tells of a table's address (its sqlite3_vtab) whether it is one of ours.
 */
export function plannedUses(
  program: readonly Instruction[],
  uses: ReadonlyMap<number, Use>,
  isOurs: (vtab: number) => boolean,
): PlannedUse[] {
  const planned: PlannedUse[] = [];
  const cursors = new Set(
    program.filter(({ opcode, p4 }) => opcode === "VOpen" && isOurs(vtabIn(p4))).map(({ p1 }) => p1),
  );
  for (const [at, { opcode, p1, p3 }] of program.entries()) {
    if (opcode !== "VFilter" || !cursors.has(p1)) continue;
    // P3 is the register of idxNum; the number of lookups and their values follow it.
    const id = constantIn(program, at, p3);
    const use = typeof id === "bigint" ? uses.get(Number(id)) : undefined;
    if (use === undefined) throw new Error("SQLite's plan names an unknown use of a table");
    const values = use.lookups.map(({ isList, value }, index) =>
      isList ? listIn(program, at, p3 + 2 + index) : value === undefined ? undefined : [value],
    );
    planned.push({ use, cursor: p1, need: needOf(use, values) });
  }
  return planned;
}

/** The address of a sqlite3_vtab, as EXPLAIN writes it. */
function vtabIn(p4: string | undefined): number {
  const address = /^vtab:([\dA-F]+)$/i.exec(p4 ?? "")?.[1];
  if (address === undefined) throw new Error("SQLite's plan does not tell which table it opens");
  return Number.parseInt(address, 16);
}

/** What a use reads, given the values of its lookups; undefined when a required one is among the unknown. */
export function needOf(use: Use, values: readonly (readonly Value[] | undefined)[]): Need | undefined {
  const { table } = use;
  const where: { column: string; values: string[] }[] = [];
  let vms: string[] | undefined;
  let nothing = false;
  let allPassed = true;
  for (const [index, { column }] of use.lookups.entries()) {
    const known = values[index];
    const type = column === 0 ? "text" : table.columns[column - 1]!.type;
    const passed = known && passable(type, known);
    if (passed === undefined) {
      allPassed = false;
      continue;
    }
    if (passed.length === 0) nothing = true;
    if (column === 0) vms = vms === undefined ? passed : vms.filter((vm) => passed.includes(vm));
    else {
      const { name } = table.columns[column - 1]!;
      const earlier = where.find((each) => each.column === name);
      // The same column twice: both hold, and SQLite looks at the second.
      if (earlier === undefined) where.push({ column: name, values: passed });
      else allPassed = false;
    }
  }
  if (table.required.length > 0 && !nothing && !where.some(({ column }) => table.required.includes(column))) {
    return undefined;
  }
  // Rows are counted, so that at least one column must come.
  const wanted = use.columns.length > 0 ? use.columns : [1];
  return {
    table: table.name,
    columns: wanted.map((column) => table.columns[column - 1]!.name),
    where,
    vms: nothing ? [] : vms,
    limit: allPassed ? (use.limit ?? 0) : 0,
  };
}

/** Values of one column that a source is asked for. With more it is asked for all rows. */
export const maxValues = 10_000;

/** The longest number that stands for the same integer everywhere. */
const integerText = /^(?:0|-?[1-9]\d{0,14})$/;

/**
 * The values as a source of rows takes them, when that finds every row that SQLite would: an integer column may be compared
 * with '7' or 7.0, and a text column with a number only after conversions that are SQLite's to make. NULL equals nothing.
 */
function passable(type: SqlTable["columns"][number]["type"], values: readonly Value[]): string[] | undefined {
  if (values.length > maxValues) return undefined;
  const passed = new Set<string>();
  for (const value of values) {
    if (value === null) continue;
    if (type === "text" && typeof value === "string" && value.isWellFormed()) passed.add(value);
    else if (type === "integer" && (typeof value === "bigint" || typeof value === "number")) {
      const number = Number(value);
      if (!Number.isSafeInteger(number)) return undefined;
      // Not -0.
      passed.add(String(number + 0));
    } else if (type === "integer" && typeof value === "string" && integerText.test(value)) passed.add(value);
    else return undefined;
  }
  return [...passed];
}

/** The constant that an instruction loads into the register; of reals EXPLAIN does not tell. */
function loaded({ opcode, p1, p2, p4 }: Instruction, register: number): Value | undefined {
  if (p2 !== register) return undefined;
  if (opcode === "Integer") return BigInt(p1);
  if (opcode === "Null") return null;
  if (p4 === undefined) return undefined;
  if (opcode === "Int64") return BigInt(p4);
  return opcode === "String8" ? p4 : undefined;
}

/** The constant that the instructions right before `at` have put into a register. */
function constantIn(program: readonly Instruction[], at: number, register: number): Value | undefined {
  return writerOf(program, at, register)?.value;
}

function writerOf(program: readonly Instruction[], at: number, register: number): { value: Value } | undefined {
  for (let before = at - 1; before >= 0 && at - before <= 2; before--) {
    const value = loaded(program[before]!, register);
    if (value !== undefined) return { value };
  }
  return undefined;
}

/**
 * The values of a list that is written in the statement: they are put one by one into the table that VInitIn makes the
 * register's. Undefined when any of them is computed.
 */
function listIn(program: readonly Instruction[], at: number, register: number): Value[] | undefined {
  let cursor: number | undefined;
  for (let before = at - 1; before >= 0 && cursor === undefined; before--) {
    const { opcode, p1, p2 } = program[before]!;
    if (opcode === "VFilter") return undefined;
    if (opcode === "VInitIn" && p2 === register) cursor = p1;
  }
  if (cursor === undefined) return undefined;
  const values: Value[] = [];
  let opened = 0;
  for (const [line, { opcode, p1, p2 }] of program.entries()) {
    if (p1 !== cursor) continue;
    if (opcode === "OpenEphemeral") opened++;
    // Filled from another table, or one made before.
    if (["OpenDup", "Insert", "Delete", "IdxDelete", "OpenAutoindex"].includes(opcode)) return undefined;
    if (opcode !== "IdxInsert") continue;
    const record = program[line - 1];
    const source = program[line - 2];
    if (record?.opcode !== "MakeRecord" || record.p2 !== 1 || record.p3 !== p2 || source === undefined)
      return undefined;
    const value = loaded(source, record.p1);
    if (value === undefined) return undefined;
    values.push(value);
  }
  return opened === 1 && values.length > 0 ? values : undefined;
}

/** Lookups as EXPLAIN QUERY PLAN shows them. */
export function describeUse({ table, lookups, limit }: Omit<Use, "id">): string {
  const words = lookups.map(({ column, isList }) => {
    const name = column === 0 ? vmColumn : table.columns[column - 1]!.name;
    return isList ? `${name} IN (…)` : `${name}=…`;
  });
  if (limit !== undefined) words.push(`LIMIT ${limit}`);
  return words.join(" AND ");
}
