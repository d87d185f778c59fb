// One SQLite in a WebAssembly memory of its own. It can reach nothing but that memory: no file, no socket, no extension.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import initialise from "@sqlite.org/sqlite-wasm";
import { allocate } from "./memory.ts";

/** The functions of the module that are called without a wrapper: pointers are numbers, 64-bit integers are bigints. */
export interface Exports {
  sqlite3_malloc(bytes: number): number;
  sqlite3_free(pointer: number): void;
  sqlite3_prepare_v3(db: number, sql: number, bytes: number, flags: number, statement: number, tail: number): number;
  sqlite3_step(statement: number): number;
  sqlite3_reset(statement: number): number;
  sqlite3_finalize(statement: number): number;
  sqlite3_stmt_readonly(statement: number): number;
  sqlite3_stmt_isexplain(statement: number): number;
  sqlite3_stmt_explain(statement: number, mode: number): number;
  sqlite3_column_count(statement: number): number;
  sqlite3_column_name(statement: number, column: number): number;
  sqlite3_column_type(statement: number, column: number): number;
  sqlite3_column_int64(statement: number, column: number): bigint;
  sqlite3_column_double(statement: number, column: number): number;
  sqlite3_column_text(statement: number, column: number): number;
  sqlite3_column_blob(statement: number, column: number): number;
  sqlite3_column_bytes(statement: number, column: number): number;
  sqlite3_value_type(value: number): number;
  /** Of a text that is a number as a whole makes one first. */
  sqlite3_value_numeric_type(value: number): number;
  sqlite3_value_int64(value: number): bigint;
  sqlite3_value_double(value: number): number;
  sqlite3_value_blob(value: number): number;
  sqlite3_value_bytes(value: number): number;
  sqlite3_result_null(context: number): void;
  sqlite3_result_int(context: number, value: number): void;
  sqlite3_result_int64(context: number, value: bigint): void;
  sqlite3_result_double(context: number, value: number): void;
  sqlite3_result_text(context: number, text: number, bytes: number, destructor: number): void;
  sqlite3_result_blob(context: number, bytes: number, length: number, destructor: number): void;
  sqlite3_vtab_rhs_value(info: number, constraint: number, value: number): number;
  sqlite3_vtab_in(info: number, constraint: number, handle: number): number;
  sqlite3_vtab_in_first(list: number, value: number): number;
  sqlite3_vtab_in_next(list: number, value: number): number;
  sqlite3_vtab_distinct(info: number): number;
  sqlite3_vtab_collation(info: number, constraint: number): number;
  sqlite3_declare_vtab(db: number, schema: number): number;
  sqlite3_extended_errcode(db: number): number;
  sqlite3_errmsg(db: number): number;
  sqlite3_limit(db: number, which: number, value: number): number;
}

/** The parts of the package's interface that are used here; its own types describe much more, and less exactly. */
interface Static {
  readonly capi: {
    sqlite3_open_v2(name: string, db: number, flags: number, vfs: number): number;
    sqlite3_exec(db: number, sql: string, callback: number, argument: number, error: number): number;
    sqlite3_create_module_v2(db: number, name: string, module: object, data: number, destroy: number): number;
    sqlite3_set_authorizer(db: number, decide: (...all: never[]) => number, argument: number): number;
    sqlite3_progress_handler(db: number, operations: number, check: () => number, argument: number): void;
    sqlite3_keyword_count(): number;
    readonly sqlite3_module: new () => { setupModule(options: { methods: object }): void };
    readonly sqlite3_index_info: { readonly structInfo: StructInfo };
  };
  readonly wasm: {
    readonly exports: Exports;
    heap8u(): Uint8Array;
    cstrToJs(pointer: number): string;
  };
}

interface StructInfo {
  readonly members: Readonly<Record<string, { readonly offset: number }>>;
}

/** SQLite's memory, as numbers of several kinds. */
export interface Heap {
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly f64: Float64Array;
  readonly i64: BigInt64Array;
}

/** A database in memory, alone in its WebAssembly memory. It is thrown away whole: there is no close. */
export interface Sqlite {
  readonly capi: Static["capi"];
  readonly wasm: Static["wasm"];
  readonly exports: Exports;
  readonly db: number;
  /** Its memory as it is now: what was had before it grew has no bytes any more. */
  heap(): Heap;
  /** A C string, for as long as the database lives. Throws ResourceExhausted at the limit of memory. */
  text(value: string): number;
  /** What was written into a pointer-sized place. */
  peek(pointer: number): number;
  /** A pointer-sized place for results. */
  readonly place: number;
  errorMessage(): string;
}

export const OK = 0;
export const ROW = 100;
export const DONE = 101;
export const TYPE = { integer: 1, real: 2, text: 3, blob: 4, null: 5 } as const;

/** Node's types leave it out. */
const { WebAssembly: wasmApi } = globalThis as unknown as {
  readonly WebAssembly: {
    readonly Module: new (bytes: Uint8Array) => object;
    readonly Instance: new (module: object, imports: object) => object;
  };
};
let compiled: object | undefined;

/** About 5 ms, once the module has been compiled. */
export async function openSqlite(): Promise<Sqlite> {
  compiled ??= new wasmApi.Module(
    readFileSync(createRequire(import.meta.url).resolve("@sqlite.org/sqlite-wasm/sqlite3.wasm")),
  );
  const module = compiled;
  const options = {
    print: () => {},
    printErr: () => {},
    instantiateWasm(imports: object, done: (instance: object, of: object) => void) {
      done(new wasmApi.Instance(module, imports), module);
      return {};
    },
  };
  const start = initialise as unknown as (options: object) => Promise<Static>;
  const { capi, wasm } = await start(options);
  const { exports } = wasm;
  const place = exports.sqlite3_malloc(8);
  const readWrite = 2;
  const inMemory = 0x80;
  const create = 4;
  if (capi.sqlite3_open_v2(":memory:", place, readWrite | create | inMemory, 0) !== OK) {
    throw new Error("SQLite can't open a database in memory");
  }
  let views = viewsOf(wasm.heap8u().buffer);
  const heap = () => {
    if (views.u8.length === 0) views = viewsOf(wasm.heap8u().buffer);
    return views;
  };
  const peek = (pointer: number) => heap().u32[pointer >>> 2]!;
  const db = peek(place);
  return {
    capi,
    wasm,
    exports,
    db,
    place,
    peek,
    heap,
    text(value) {
      const bytes = Buffer.from(`${value}\0`);
      const at = allocate({ exports }, bytes.length);
      heap().u8.set(bytes, at);
      return at;
    },
    errorMessage: () => wasm.cstrToJs(exports.sqlite3_errmsg(db)),
  };
}

function viewsOf(buffer: ArrayBufferLike): Heap {
  return {
    u8: new Uint8Array(buffer),
    u32: new Uint32Array(buffer),
    f64: new Float64Array(buffer),
    i64: new BigInt64Array(buffer),
  };
}
