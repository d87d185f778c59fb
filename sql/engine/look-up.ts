// The values that SQLite looks rows up by, and the VMs and hashes that they come down to. A join asks for them once a row.
import { type Lookup, maxValues, type Use, type Value } from "./plan.ts";
import { hashNumber, hashText } from "./relation.ts";
import { OK, type Sqlite, TYPE } from "./sqlite.ts";

/** Values of a list that are looked up one by one; with more, going through all rows is no slower. */
const mostHashes = 100_000;

/** A VM's value of the column `vm`, in SQLite's memory. */
export interface VmName {
  readonly at: number;
  readonly length: number;
}

export interface LookUps {
  readValue(value: number): Value;
  /** The values of a lookup, of more than `maxValues` only one more than these. */
  values(lookup: Lookup, argument: number): Value[];
  /** The VMs that the lookups leave, or all of them. */
  vms(use: Use, argv: number): readonly number[];
  /** The hashes to look rows up by in an index; undefined when all rows must be looked at. */
  hashes(lookup: Lookup, argument: number, type: string): readonly number[] | undefined;
}

export function createLookUps(sqlite: Sqlite, vms: readonly string[], names: readonly VmName[]): LookUps {
  const { exports, peek, place } = sqlite;
  const numbers = new Map(vms.map((vm, number) => [vm, number]));
  const all = vms.map((_, number) => number);
  const alone = all.map((number) => [number]);
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

  function vmsOf(lookup: Lookup, argument: number): readonly number[] {
    if (!lookup.isList && exports.sqlite3_value_type(argument) === TYPE.text) {
      // In a join it is mostly the name that a row of another table has given, where it lies.
      const number = atName.get(exports.sqlite3_value_blob(argument));
      if (number !== undefined && exports.sqlite3_value_bytes(argument) === names[number]!.length)
        return alone[number]!;
    }
    const found = new Set<number>();
    for (const value of valuesOf(lookup, argument)) {
      const name = readValue(value);
      if (name === null) continue;
      // A number may become a text by SQLite's rules.
      if (typeof name !== "string") return all;
      const number = numbers.get(name);
      if (number !== undefined) found.add(number);
    }
    return [...found].sort((a, b) => a - b);
  }

  return {
    readValue,
    values(lookup, argument) {
      const values: Value[] = [];
      for (const value of valuesOf(lookup, argument)) {
        if (values.push(readValue(value)) > maxValues) break;
      }
      return values;
    },
    vms(use, argv) {
      let left: readonly number[] = all;
      for (let index = 0; index < use.lookups.length; index++) {
        const lookup = use.lookups[index]!;
        if (lookup.column !== 0) continue;
        const found = vmsOf(lookup, peek(argv + 4 * index));
        left = left === all ? found : left.filter((vm) => found.includes(vm));
      }
      return left;
    },
    hashes(lookup, argument, type) {
      if (!lookup.isList) {
        const hash = hashOf(argument, type);
        return hash === undefined ? undefined : hash === null ? [] : [hash];
      }
      const hashes = new Set<number>();
      for (const value of listed(argument)) {
        const hash = hashOf(value, type);
        if (hash === undefined || hashes.size === mostHashes) return undefined;
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
