// The tables as SQLite sees them: it asks how a constraint would help (xBestIndex), then looks rows up and goes through them.
// What is thrown in here leaves through SQLite's frames: the whole instance is thrown away after each statement.
import { type Batch, KIND } from "./batch.ts";
import { Groups } from "./groups.ts";
import { createLookUps } from "./look-up.ts";
import { allocate } from "./memory.ts";
import { describeUse, type Lookup, type Use, type Value } from "./plan.ts";
import { hashNumber, type Relation } from "./relation.ts";
import { Rows } from "./rows.ts";
import { declarationOf, type SqlTable } from "./schema.ts";
import { OK, type Sqlite } from "./sqlite.ts";

/** What a statement works with. */
export interface Tables {
  readonly tables: ReadonlyMap<string, SqlTable>;
  readonly vms: readonly string[];
  /** Every use that SQLite has considered. */
  readonly uses: Map<number, Use>;
  /** Tables that the statement names. */
  readonly named: Set<SqlTable>;
  /** Tables whose required constraint a plan lacked. */
  readonly lacking: Set<SqlTable>;
  /** What has been read for uses, by their ids. */
  readonly planned: ReadonlyMap<number, Relation>;
  /** Reads for a use with these values of its lookups. */
  readNow(use: Use, values: readonly (readonly Value[])[]): Relation;
}

// struct sqlite3_index_info and its parts: https://sqlite.org/c3ref/index_info.html, with pointers of 4 bytes.
const info = {
  constraints: 0,
  aConstraint: 4,
  orderBys: 8,
  aOrderBy: 12,
  aUsage: 16,
  idxNum: 20,
  idxStr: 24,
  ordered: 32,
  cost: 40,
  rows: 48,
  colUsed: 64,
} as const;
const constraintSize = 12;
const usageSize = 8;
const orderBySize = 8;
/** What sqlite3_vtab_distinct says of GROUP BY and of DISTINCT, when the order of the groups is of no matter. */
const GROUPED = [1, 2];
const OP = { eq: 2, limit: 73, offset: 74 } as const;
/** SQLite is to try another plan. */
const CONSTRAINT = 19;

interface Cursor {
  readonly rows: Rows;
  /** The same rows in another order, when that is wanted. */
  groups: Groups | undefined;
  /** The row that it is at; without a batch it is at the end. */
  batch: Batch | undefined;
  row: number;
  vm: number;
  relation: Relation | undefined;
  /** Of a column of the table: where its cells are in a batch of the relation. */
  slots: Int16Array;
}

/**
 * Makes the tables known to SQLite. Each is connected when a statement first names it. Returns whether a sqlite3_vtab at
 * some address is one of theirs.
 */
export function addTables(sqlite: Sqlite, work: Tables): (vtab: number) => boolean {
  const { exports, wasm, peek, place } = sqlite;
  const connected = new Map<number, SqlTable>();
  const cursors = new Map<number, Cursor>();
  const names = work.vms.map((vm) => ({ at: sqlite.text(vm), length: Buffer.byteLength(vm) }));
  const lookUps = createLookUps(sqlite, work.vms, names);
  const view = () => new DataView(sqlite.heap().u8.buffer);

  function bestIndex(vtab: number, at: number): number {
    const table = connected.get(vtab)!;
    const count = view().getInt32(at + info.constraints, true);
    const lookups: Lookup[] = [];
    const columns = columnsIn(view().getBigUint64(at + info.colUsed, true), table);
    let limit: number | undefined;
    let offset: number | undefined = 0;
    let limitHolds = view().getInt32(at + info.orderBys, true) === 0;
    for (let i = 0; i < count; i++) {
      const constraint = view().getUint32(at + info.aConstraint, true) + i * constraintSize;
      const column = view().getInt32(constraint, true);
      const op = view().getUint8(constraint + 4);
      const usable = view().getUint8(constraint + 5) !== 0;
      const value = exports.sqlite3_vtab_rhs_value(at, i, place) === OK ? lookUps.readValue(peek(place)) : undefined;
      if (op === OP.limit || op === OP.offset) {
        const number = typeof value === "bigint" && usable ? Number(value) : undefined;
        if (op === OP.limit) limit = number;
        else offset = number;
        continue;
      }
      const comparesBytes = wasm.cstrToJs(exports.sqlite3_vtab_collation(at, i)).toUpperCase() === "BINARY";
      if (!usable || op !== OP.eq || column < 0 || !comparesBytes) {
        limitHolds = false;
        continue;
      }
      const isList = exports.sqlite3_vtab_in(at, i, -1) !== 0;
      if (isList) exports.sqlite3_vtab_in(at, i, 1);
      const isExact = !isList && (column === 0 ? lookUps.vmsAreExact : isInteger(table, column, columns));
      lookups.push({ column, isList, value: isList ? undefined : value, isExact });
      const usage = view().getUint32(at + info.aUsage, true) + i * usageSize;
      view().setInt32(usage, lookups.length, true);
      // `omit`
      view().setUint8(usage + 4, isExact ? 1 : 0);
    }
    const grouped = groupedBy(table, at);
    view().setInt32(at + info.ordered, grouped.length > 0 ? 1 : 0, true);
    const { required } = table;
    const isRequired = ({ column }: Lookup) => column > 0 && required.includes(table.columns[column - 1]!.name);
    if (required.length > 0 && !lookups.some(isRequired)) {
      work.lacking.add(table);
      return CONSTRAINT;
    }
    const end = limit === undefined || offset === undefined ? undefined : Math.max(limit, 0) + Math.max(offset, 0);
    const use = {
      id: work.uses.size + 1,
      table,
      columns,
      lookups,
      limit: limitHolds && limit !== undefined && limit >= 0 && end! > 0 ? end : undefined,
      grouped,
    };
    work.uses.set(use.id, use);
    const text = sqlite.text(describeUse(use));
    const target = view();
    target.setInt32(at + info.idxNum, use.id, true);
    target.setUint32(at + info.idxStr, text, true);
    const [cost, rows] = estimate(use, work.vms.length, isRequired);
    target.setFloat64(at + info.cost, cost, true);
    target.setBigInt64(at + info.rows, BigInt(rows), true);
    return OK;
  }

  /** The columns by which rows are to be grouped; none when that is not all that is wanted of their order. */
  function groupedBy(table: SqlTable, at: number): number[] {
    if (!GROUPED.includes(exports.sqlite3_vtab_distinct(at))) return [];
    const count = view().getInt32(at + info.orderBys, true);
    const from = view().getUint32(at + info.aOrderBy, true);
    const columns = Array.from({ length: count }, (_, term) => view().getInt32(from + term * orderBySize, true));
    // Reals would be equal in ways of their own.
    const usable = (column: number) => column === 0 || (column > 0 && table.columns[column - 1]!.type !== "real");
    return columns.every(usable) ? columns : [];
  }

  function filter(at: number, idxNum: number, argv: number): number {
    const use = work.uses.get(idxNum)!;
    const cursor = cursors.get(at)!;
    const relation = work.planned.get(idxNum) ?? readNow(use, argv);
    clear(cursor);
    if (relation !== cursor.relation) {
      cursor.relation = relation;
      cursor.slots = slotsOf(use.table, relation);
    }
    const vms = search(use, cursor, argv);
    const columns = use.grouped.filter((column) => column !== 0);
    // By VM they are grouped already.
    if (columns.length === 0) cursor.rows.begin(relation, vms);
    else {
      const parts = columns.length < use.grouped.length ? vms.map((vm) => [vm]) : [vms];
      const grouped = columns.map((column) => cursor.slots[column]!);
      cursor.groups = new Groups(sqlite, grouped, cursor.rows, relation, parts);
    }
    advance(cursor);
    return OK;
  }

  function readNow(use: Use, argv: number): Relation {
    const values = use.lookups.map((lookup, index) => lookUps.values(lookup, peek(argv + 4 * index)));
    return work.readNow(use, values);
  }

  /** Makes a cursor search for the rows that a use looks up, and maybe more where that is not exact; returns the VMs for it. */
  function search(use: Use, { rows, slots }: Cursor, argv: number): readonly number[] {
    const wanted = rows.search;
    wanted.slot = -1;
    wanted.checks.length = 0;
    let vms = lookUps.allVms;
    for (let index = 0; index < use.lookups.length; index++) {
      const lookup = use.lookups[index]!;
      const { column } = lookup;
      const argument = peek(argv + 4 * index);
      if (column === 0) {
        const found = lookUps.vms(lookup, argument);
        vms = vms === lookUps.allVms ? found : vms.filter((vm) => found.includes(vm));
        continue;
      }
      const slot = slots[column]!;
      let hashes: readonly number[] | undefined;
      if (lookup.isExact) {
        const key = lookUps.key(argument);
        if (key === undefined) return [];
        wanted.checks.push({ slot, key });
        if (typeof key === "number") hashes = [hashNumber(key)];
      } else if (slot >= 0 && wanted.slot < 0) {
        hashes = lookUps.hashes(lookup, argument, use.table.columns[column - 1]!.type);
      }
      if (hashes === undefined || wanted.slot >= 0) continue;
      wanted.slot = slot;
      wanted.hashes = hashes;
    }
    return vms;
  }

  function advance(cursor: Cursor): void {
    const { rows, groups } = cursor;
    if (groups === undefined) {
      rows.next();
      cursor.batch = rows.batch;
      cursor.row = rows.row;
      cursor.vm = rows.vm;
    } else if (groups.next()) {
      const { batch, vm } = groups.source;
      cursor.batch = batch;
      cursor.vm = vm;
      cursor.row = groups.row;
    } else cursor.batch = undefined;
  }

  function clear(cursor: Cursor): void {
    cursor.groups?.free();
    cursor.groups = undefined;
  }

  function column(at: number, context: number, number: number): number {
    const { batch, row, vm, slots } = cursors.get(at)!;
    if (number === 0) {
      const name = names[vm]!;
      exports.sqlite3_result_text(context, name.at, name.length, 0);
      return OK;
    }
    const cells = batch!.columns[slots[number]!];
    if (cells === undefined) throw new Error("a column is looked at that the plan did not tell of");
    const { u8, u32, f64, i64 } = sqlite.heap();
    const kind = cells.kinds === undefined ? KIND.value : u8[cells.kinds + row];
    const slot = cells.at / 8 + row;
    if (kind === KIND.absent) exports.sqlite3_result_null(context);
    else if (cells.type === "text") {
      // The bytes stay where they are until the statement has ended.
      const give = kind === KIND.value ? exports.sqlite3_result_text : exports.sqlite3_result_blob;
      give(context, u32[2 * slot]!, u32[2 * slot + 1]!, 0);
    } else if (kind === KIND.large) exports.sqlite3_result_int64(context, i64[slot]!);
    else {
      const value = f64[slot]!;
      if (cells.type === "real") exports.sqlite3_result_double(context, value);
      else if (value === (value | 0)) exports.sqlite3_result_int(context, value);
      else exports.sqlite3_result_int64(context, BigInt(value));
    }
    return OK;
  }

  const methods = {
    xConnect(db: number, _data: number, _argc: number, argv: number, vtab: number): number {
      const table = work.tables.get(wasm.cstrToJs(peek(argv)))!;
      work.named.add(table);
      const status = exports.sqlite3_declare_vtab(db, sqlite.text(declarationOf(table)));
      if (status !== OK) return status;
      const made = allocate(sqlite, 12);
      sqlite.heap().u8.fill(0, made, made + 12);
      connected.set(made, table);
      view().setUint32(vtab, made, true);
      return OK;
    },
    xBestIndex: bestIndex,
    xDisconnect(vtab: number): number {
      connected.delete(vtab);
      exports.sqlite3_free(vtab);
      return OK;
    },
    xOpen(vtab: number, target: number): number {
      const made = allocate(sqlite, 4);
      view().setUint32(made, vtab, true);
      cursors.set(made, {
        rows: new Rows(sqlite),
        groups: undefined,
        batch: undefined,
        row: 0,
        vm: 0,
        relation: undefined,
        slots: new Int16Array(0),
      });
      view().setUint32(target, made, true);
      return OK;
    },
    xClose(at: number): number {
      clear(cursors.get(at)!);
      cursors.delete(at);
      exports.sqlite3_free(at);
      return OK;
    },
    xFilter: (at: number, idxNum: number, _idxStr: number, _argc: number, argv: number) => filter(at, idxNum, argv),
    xNext(at: number): number {
      advance(cursors.get(at)!);
      return OK;
    },
    xEof: (at: number) => (cursors.get(at)!.batch === undefined ? 1 : 0),
    xColumn: column,
    xRowid(at: number, target: number): number {
      const { batch, row } = cursors.get(at)!;
      view().setBigInt64(target, BigInt(batch!.first + row), true);
      return OK;
    },
  };
  const module = new sqlite.capi.sqlite3_module();
  module.setupModule({ methods });
  for (const name of work.tables.keys()) {
    if (sqlite.capi.sqlite3_create_module_v2(sqlite.db, name, module, 0, 0) !== OK) {
      throw new Error(`SQLite does not take a table ${name}`);
    }
  }
  return (vtab) => connected.has(vtab);
}

/** The columns of the mask; its last bit stands for all from the 64th on. */
function columnsIn(mask: bigint, table: SqlTable): number[] {
  const columns: number[] = [];
  for (let column = 1; column <= table.columns.length; column++) {
    if ((mask >> BigInt(Math.min(column, 63))) & 1n) columns.push(column);
  }
  return columns;
}

/** Whether a column has integers only, and is among those that are read. */
function isInteger(table: SqlTable, column: number, read: readonly number[]): boolean {
  return table.columns[column - 1]!.type === "integer" && read.includes(column);
}

function slotsOf(table: SqlTable, relation: Relation): Int16Array {
  const made = new Int16Array(table.columns.length + 1).fill(-1);
  for (const [slot, { name }] of relation.columns.entries()) {
    made[1 + table.columns.findIndex((each) => each.name === name)] = slot;
  }
  return made;
}

/** Rows of a table in one VM, for want of better knowledge. */
const rowsOfVm = 500;

/** What a use costs and how many rows it gives, for SQLite to compare its plans. */
function estimate(use: Omit<Use, "id">, vms: number, isRequired: (lookup: Lookup) => boolean): [number, number] {
  const some = use.lookups.some(({ column }) => column > 0);
  const ofVm = use.lookups.some(({ column }) => column === 0);
  const rows = Math.max(1, (some ? 4 : rowsOfVm) * (ofVm ? 1 : Math.max(vms, 1)));
  const told = ({ value, isList }: Lookup) => value !== undefined || isList;
  // Reading for values that only another table tells means asking the guest anew for each of them.
  const asks = use.table.required.length > 0 && !use.lookups.some((each) => isRequired(each) && told(each));
  return [asks ? rows * 10_000 : rows + (some ? 1 : 20), rows];
}
