// The tables as SQLite sees them: it asks how a constraint would help (xBestIndex), then looks rows up and goes through them.
// What is thrown in here leaves through SQLite's frames: the whole instance is thrown away after each statement.
import { KIND } from "./batch.ts";
import { allocate } from "./memory.ts";
import { describeUse, type Lookup, maxValues, type Use, type Value } from "./plan.ts";
import { hashNumber, hashText, type Relation, Rows } from "./relation.ts";
import { declarationOf, type SqlTable } from "./schema.ts";
import { OK, type Sqlite, TYPE } from "./sqlite.ts";

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
  /** What has been read for a use; reads it now, with these values of its lookups, when nothing was known before. */
  relationOf(use: Use, values: () => (readonly Value[] | undefined)[]): Relation;
}

// struct sqlite3_index_info and its parts: https://sqlite.org/c3ref/index_info.html, with pointers of 4 bytes.
const info = {
  constraints: 0,
  aConstraint: 4,
  orderBys: 8,
  aUsage: 16,
  idxNum: 20,
  idxStr: 24,
  cost: 40,
  rows: 48,
  colUsed: 64,
} as const;
const constraintSize = 12;
const usageSize = 8;
/** Values of a list that are looked up one by one; with more, going through all rows is no slower. */
const mostHashes = 100_000;
const OP = { eq: 2, limit: 73, offset: 74 } as const;
/** SQLite is to try another plan. */
const CONSTRAINT = 19;

interface Cursor {
  readonly rows: Rows;
  /** Of a column of the table: where its cells are in a batch. */
  slots: Int16Array;
}

/** Makes the tables known to SQLite. Each is connected when a statement first names it. */
export function addTables(sqlite: Sqlite, work: Tables): void {
  const { exports, wasm, peek, place } = sqlite;
  const connected = new Map<number, SqlTable>();
  const cursors = new Map<number, Cursor>();
  const names = work.vms.map((vm) => ({ at: sqlite.text(vm), length: Buffer.byteLength(vm) }));
  const vmNumbers = new Map(work.vms.map((vm, number) => [vm, number]));
  const allVms = work.vms.map((_, number) => number);
  const view = () => new DataView(sqlite.heap().u8.buffer);

  function readValue(value: number): Value {
    switch (exports.sqlite3_value_type(value)) {
      case TYPE.integer:
        return exports.sqlite3_value_int64(value);
      case TYPE.real:
        return exports.sqlite3_value_double(value);
      case TYPE.text: {
        const at = exports.sqlite3_value_text(value);
        const length = exports.sqlite3_value_bytes(value);
        return Buffer.from(sqlite.heap().u8.subarray(at, at + length)).toString("utf8");
      }
      case TYPE.null:
        return null;
      default:
        return { blob: true };
    }
  }

  /** The values of each list or single value that a lookup has. */
  function* valuesOf(lookup: Lookup, argument: number): Generator<number> {
    if (!lookup.isList) {
      yield argument;
      return;
    }
    for (
      let status = exports.sqlite3_vtab_in_first(argument, place);
      status === OK;
      status = exports.sqlite3_vtab_in_next(argument, place)
    )
      yield peek(place);
  }

  function valuesUpTo(most: number, lookup: Lookup, argument: number): Value[] {
    const values: Value[] = [];
    for (const value of valuesOf(lookup, argument)) {
      values.push(readValue(value));
      if (values.length === most) break;
    }
    return values;
  }

  function bestIndex(vtab: number, at: number): number {
    const table = connected.get(vtab)!;
    const count = view().getInt32(at + info.constraints, true);
    const lookups: Lookup[] = [];
    let limit: number | undefined;
    let offset: number | undefined = 0;
    let limitHolds = view().getInt32(at + info.orderBys, true) === 0;
    for (let i = 0; i < count; i++) {
      const constraint = view().getUint32(at + info.aConstraint, true) + i * constraintSize;
      const column = view().getInt32(constraint, true);
      const op = view().getUint8(constraint + 4);
      const usable = view().getUint8(constraint + 5) !== 0;
      const value = exports.sqlite3_vtab_rhs_value(at, i, place) === OK ? readValue(peek(place)) : undefined;
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
      lookups.push({ column, isList, value: isList ? undefined : value });
      const usage = view().getUint32(at + info.aUsage, true) + i * usageSize;
      view().setInt32(usage, lookups.length, true);
    }
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
      columns: columnsIn(view().getBigUint64(at + info.colUsed, true), table),
      lookups,
      limit: limitHolds && limit !== undefined && limit >= 0 && end! > 0 ? end : undefined,
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

  /** The VMs that the lookups leave, or all of them. */
  function vmsOf(use: Use, argv: number): readonly number[] {
    let vms: readonly number[] = allVms;
    for (const [index, lookup] of use.lookups.entries()) {
      if (lookup.column !== 0) continue;
      const found = new Set<number>();
      for (const value of valuesOf(lookup, peek(argv + 4 * index))) {
        const name = readValue(value);
        if (name === null) continue;
        // A number may become a text by SQLite's rules.
        if (typeof name !== "string") return allVms;
        const number = vmNumbers.get(name);
        if (number !== undefined) found.add(number);
      }
      vms = vms.filter((vm) => found.has(vm));
    }
    return vms;
  }

  /** The hashes to look rows up by in an index; undefined when all rows must be looked at. */
  function hashesOf(lookup: Lookup, argument: number, type: string): Set<number> | undefined {
    const hashes = new Set<number>();
    for (const value of valuesOf(lookup, argument)) {
      if (hashes.size === mostHashes) return undefined;
      const kind = exports.sqlite3_value_type(value);
      if (kind === TYPE.null) continue;
      if (type === "integer" && (kind === TYPE.integer || kind === TYPE.real)) {
        const number =
          kind === TYPE.integer ? Number(exports.sqlite3_value_int64(value)) : exports.sqlite3_value_double(value);
        if (Math.abs(number) > Number.MAX_SAFE_INTEGER) return undefined;
        hashes.add(hashNumber(number));
      } else if (type === "text" && kind === TYPE.text) {
        const at = exports.sqlite3_value_text(value);
        const length = exports.sqlite3_value_bytes(value);
        const heap = sqlite.heap().u8;
        // It may be compared as a number: '05' equals '5' then.
        if (length > 0 && beginsNumber(heap[at]!)) return undefined;
        hashes.add(hashText(heap, at, length));
      } else return undefined;
    }
    return hashes;
  }

  function filter(at: number, idxNum: number, argv: number): number {
    const use = work.uses.get(idxNum)!;
    const cursor = cursors.get(at)!;
    const values = () => use.lookups.map((lookup, index) => valuesUpTo(maxValues + 1, lookup, peek(argv + 4 * index)));
    const relation = work.relationOf(use, values);
    cursor.rows.clear();
    cursor.slots = slotsOf(use.table, relation);
    const vms = vmsOf(use, argv);
    for (const [index, lookup] of use.lookups.entries()) {
      const slot = cursor.slots[lookup.column]!;
      if (lookup.column === 0 || slot < 0) continue;
      const hashes = hashesOf(lookup, peek(argv + 4 * index), use.table.columns[lookup.column - 1]!.type);
      if (hashes === undefined) continue;
      for (const vm of vms) relation.lookUp(vm, slot, hashes, cursor.rows);
      cursor.rows.next();
      return OK;
    }
    for (const vm of vms) relation.addAll(vm, cursor.rows);
    cursor.rows.next();
    return OK;
  }

  function column(at: number, context: number, number: number): number {
    const { rows, slots } = cursors.get(at)!;
    if (number === 0) {
      const name = names[rows.vm]!;
      exports.sqlite3_result_text(context, name.at, name.length, 0);
      return OK;
    }
    const cells = rows.batch!.columns[slots[number]!];
    if (cells === undefined) throw new Error("a column is looked at that the plan did not tell of");
    const { u8, u32, f64, i64 } = sqlite.heap();
    const { row } = rows;
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
      cursors.set(made, { rows: new Rows(sqlite), slots: new Int16Array(0) });
      view().setUint32(target, made, true);
      return OK;
    },
    xClose(at: number): number {
      cursors.delete(at);
      exports.sqlite3_free(at);
      return OK;
    },
    xFilter: (at: number, idxNum: number, _idxStr: number, _argc: number, argv: number) => filter(at, idxNum, argv),
    xNext(at: number): number {
      cursors.get(at)!.rows.next();
      return OK;
    },
    xEof: (at: number) => (cursors.get(at)!.rows.batch === undefined ? 1 : 0),
    xColumn: column,
    xRowid(at: number, target: number): number {
      const { batch, row } = cursors.get(at)!.rows;
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
}

/** The columns of the mask; its last bit stands for all from the 64th on. */
function columnsIn(mask: bigint, table: SqlTable): number[] {
  const columns: number[] = [];
  for (let column = 1; column <= table.columns.length; column++) {
    if ((mask >> BigInt(Math.min(column, 63))) & 1n) columns.push(column);
  }
  return columns;
}

const slots = new WeakMap<Relation, Int16Array>();

function slotsOf(table: SqlTable, relation: Relation): Int16Array {
  const known = slots.get(relation);
  if (known !== undefined) return known;
  const made = new Int16Array(table.columns.length + 1).fill(-1);
  for (const [slot, { name }] of relation.columns.entries()) {
    made[1 + table.columns.findIndex((each) => each.name === name)] = slot;
  }
  slots.set(relation, made);
  return made;
}

/** White space, signs, digits and the point. */
function beginsNumber(byte: number): boolean {
  return (
    (byte >= 0x09 && byte <= 0x0d) || byte === 0x20 || byte === 0x2b || byte === 0x2d || byte === 0x2e || isDigit(byte)
  );
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
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
