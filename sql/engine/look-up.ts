// The values that SQLite looks rows up by, and the VMs and hashes that they come down to. A join asks for them once a row.
import { type Lookup, maxValues, type Value } from "./plan.ts";
import { hashNumber, hashText } from "./relation.ts";
import type { Key } from "./rows.ts";
import { OK, type Sqlite, TYPE } from "./sqlite.ts";

/** Values of a list that are looked up one by one; with more, going through all rows is no slower. */
const maxHashes = 100_000;
const none: readonly number[] = [];

/** A VM's value of the column `vm`, in SQLite's memory. */
export interface VmName {
  readonly at: number;
  readonly length: number;
}

export interface LookUps {
  readonly allVms: readonly number[];
  /** Whether the VMs for values of the column `vm` are always exactly those that SQLite would find. */
  readonly vmsAreExact: boolean;
  readValue(value: number): Value;
  /** The values of a lookup, of more than `maxValues` only one more than these. */
  values(lookup: Lookup, argument: number): Value[];
  /** The VMs for a lookup of the column `vm`, and maybe more. */
  vms(lookup: Lookup, argument: number): readonly number[];
  /** What a value is compared as with an integer column; undefined when no cell equals it. */
  key(argument: number): Key | undefined;
  /** The hashes to look rows up by in an index; undefined when all rows must be looked at. */
  hashes(lookup: Lookup, argument: number, type: string): readonly number[] | undefined;
}

/** What SQLite may take for a number (https://sqlite.org/datatype3.html#type_affinity), and what it writes for one: Inf. */
const numeric = /^[\t-\r ]*[+-]?(?:\d+\.?\d*|\.\d+|inf)(?:e[+-]?\d+)?[\t-\r ]*$/i;

export function createLookUps(sqlite: Sqlite, vms: readonly string[], names: readonly VmName[]): LookUps {
  const { exports, peek, place } = sqlite;
  const allVms = vms.map((_, number) => number);
  // Bytes are compared, so that these stand for them.
  const latin1 = vms.map((vm) => Buffer.from(vm).toString("latin1"));
  const numbers = new Map(latin1.map((name, number) => [name, number]));
  const numericVms = allVms.filter((number) => numeric.test(latin1[number]!));
  const alike = allVms.map((number) => (numericVms.includes(number) ? numericVms : [number]));
  const atName = new Map(names.map(({ at }, number) => [at, number]));

  function readValue(value: number): Value {
    switch (exports.sqlite3_value_type(value)) {
      case TYPE.integer:
        return exports.sqlite3_value_int64(value);
      case TYPE.real:
        return exports.sqlite3_value_double(value);
      case TYPE.text: {
        // As a blob: a text would be copied to get a zero at its end.
        const at = exports.sqlite3_value_blob(value);
        const length = exports.sqlite3_value_bytes(value);
        return Buffer.from(sqlite.heap().u8.subarray(at, at + length)).toString("utf8");
      }
      case TYPE.null:
        return null;
      default:
        return { blob: true };
    }
  }

  /** The values of a list. */
  function* listed(argument: number): Generator<number> {
    for (
      let status = exports.sqlite3_vtab_in_first(argument, place);
      status === OK;
      status = exports.sqlite3_vtab_in_next(argument, place)
    )
      yield peek(place);
  }

  const valuesOf = ({ isList }: Lookup, argument: number): Iterable<number> => (isList ? listed(argument) : [argument]);

  /** The hash of a value; null when it equals nothing, undefined when it may equal what hashes otherwise. */
  function hashOf(value: number, type: string): number | null | undefined {
    const kind = exports.sqlite3_value_type(value);
    if (kind === TYPE.null) return null;
    if (type === "integer" && (kind === TYPE.integer || kind === TYPE.real)) {
      const number = exports.sqlite3_value_double(value);
      return Math.abs(number) > Number.MAX_SAFE_INTEGER ? undefined : hashNumber(number);
    }
    if (type !== "text" || kind !== TYPE.text) return undefined;
    const at = exports.sqlite3_value_blob(value);
    const length = exports.sqlite3_value_bytes(value);
    const { u8 } = sqlite.heap();
    // It may be compared as a number: '05' equals '5' then.
    if (length > 0 && beginsNumber(u8[at]!)) return undefined;
    return hashText(u8, at, length);
  }

  /**
   * The VMs whose names may equal a value. Only when both are numeric does it depend on where the value comes from what they
   * are compared as: '05' may equal '5', and the number 5 either.
   */
  function vmsNamed(value: number): readonly number[] {
    const type = exports.sqlite3_value_type(value);
    if (type === TYPE.integer || type === TYPE.real) return numericVms;
    if (type !== TYPE.text) return none;
    const at = exports.sqlite3_value_blob(value);
    const length = exports.sqlite3_value_bytes(value);
    // In a join it is mostly the name that a row of another table has given, where it lies.
    const known = atName.get(at);
    if (known !== undefined && names[known]!.length === length) return alike[known]!;
    const name = Buffer.from(sqlite.heap().u8.subarray(at, at + length)).toString("latin1");
    if (numeric.test(name)) return numericVms;
    const number = numbers.get(name);
    return number === undefined ? none : alike[number]!;
  }

  return {
    allVms,
    vmsAreExact: numericVms.length === 0,
    readValue,
    values(lookup, argument) {
      const values: Value[] = [];
      for (const value of valuesOf(lookup, argument)) {
        if (values.push(readValue(value)) > maxValues) break;
      }
      return values;
    },
    vms(lookup, argument) {
      if (!lookup.isList) return vmsNamed(argument);
      const found = new Set<number>();
      for (const value of listed(argument)) for (const vm of vmsNamed(value)) found.add(vm);
      return [...found].sort((a, b) => a - b);
    },
    key(argument) {
      // It becomes what SQLite would compare.
      const type = exports.sqlite3_value_numeric_type(argument);
      if (type !== TYPE.integer && type !== TYPE.real) return undefined;
      const number = exports.sqlite3_value_double(argument);
      if (Math.abs(number) <= Number.MAX_SAFE_INTEGER) return number;
      if (type === TYPE.integer) return exports.sqlite3_value_int64(argument);
      return Number.isInteger(number) ? BigInt(number) : number;
    },
    hashes(lookup, argument, type) {
      if (!lookup.isList) {
        const hash = hashOf(argument, type);
        return hash === undefined ? undefined : hash === null ? [] : [hash];
      }
      const hashes = new Set<number>();
      for (const value of listed(argument)) {
        const hash = hashOf(value, type);
        if (hash === undefined || hashes.size === maxHashes) return undefined;
        if (hash !== null) hashes.add(hash);
      }
      return [...hashes];
    },
  };
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
