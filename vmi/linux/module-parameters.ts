import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { type SymbolSpec, struct, symbol } from "../symbols/specs.ts";
import type { Kernel, Place } from "./kernel.ts";
import { moduleStruct } from "./module.ts";
import { isNull, plus, readCString, readPointer, readU32, sameAddress } from "./read.ts";

/** Parameters of modules and of what is built in (include/linux/moduleparam.h, kernel/params.c). */

const kernelParam = struct("?kernel_param", { name: "name", ops: "ops", perm: "perm", arg: "arg" });
const kparamString = struct("?kparam_string", { maxlen: "maxlen", string: "string" });
const kparamArray = struct("?kparam_array", {
  max: "max",
  elemsize: "elemsize",
  num: "num",
  ops: "ops",
  elem: "elem",
});
const startParam = symbol("?__start___param");
const stopParam = symbol("?__stop___param");

type Format = (kernel: Kernel, at: Halves) => string | Uint8Array | undefined;

/** A number of 32 bits or fewer. */
function small(bytes: 1 | 2 | 4, signed: boolean): Format {
  return (kernel, at) => {
    const word = readNarrow(kernel, at, bytes);
    const unused = 32 - bytes * 8;
    return word === undefined ? undefined : String(signed ? (word << unused) >> unused : word);
  };
}

function readNarrow(kernel: Kernel, at: Halves, bytes: 1 | 2 | 4): number | undefined {
  const index = kernel.space.borrow(at.hi, at.lo, bytes);
  const { view } = kernel.memory;
  if (index < 0) return undefined;
  return bytes === 1 ? view.getUint8(index) : bytes === 2 ? view.getUint16(index, true) : view.getUint32(index, true);
}

function wide(signed: boolean): Format {
  return (kernel, at) => {
    const value = readPointer(kernel.space, at);
    if (value === undefined) return undefined;
    const all = (BigInt(value.hi >>> 0) << 32n) | BigInt(value.lo >>> 0);
    return String(signed ? BigInt.asIntN(64, all) : all);
  };
}

function flag(set: string, clear: string): Format {
  return (kernel, at) => {
    const value = readNarrow(kernel, at, 1);
    return value === undefined ? undefined : value !== 0 ? set : clear;
  };
}

const text: Format = (kernel, at) => {
  const string = readPointer(kernel.space, at);
  if (string === undefined) return undefined;
  return isNull(string) ? "(null)" : readCString(kernel.space, string, MAX_VALUE);
};

const hexadecimal: Format = (kernel, at) => {
  const value = readU32(kernel.space, at);
  // As "%#08x" of C: zero has no prefix.
  if (value === undefined) return undefined;
  return value === 0 ? "00000000" : `0x${value.toString(16).padStart(6, "0")}`;
};

/** A value is shown in one page of /sys. */
const MAX_VALUE = 4096;
const MAX_PARAMETERS = 8192;

/** Kinds that the kernel itself has, by the operations that a parameter names (`param_ops_KIND`). */
const kinds: readonly { readonly kind: string; readonly ops: SymbolSpec; readonly format: Format }[] = (
  [
    ["byte", small(1, false)],
    ["short", small(2, true)],
    ["ushort", small(2, false)],
    ["int", small(4, true)],
    ["uint", small(4, false)],
    ["long", wide(true)],
    ["ulong", wide(false)],
    ["ullong", wide(false)],
    ["hexint", hexadecimal],
    ["charp", text],
    ["bool", flag("Y", "N")],
    ["bool_enable_only", flag("Y", "N")],
    ["invbool", flag("N", "Y")],
    ["bint", small(4, true)],
  ] as const
).map(([kind, format]) => ({ kind, ops: symbol(`?param_ops_${kind}`), format }));
const stringOps = symbol("?param_ops_string");
const arrayOps = symbol("?param_array_ops");

export interface Parameter {
  readonly module: Uint8Array;
  readonly name: Uint8Array;
  /** `int`, `charp` and so on; `array of int`; undefined for a kind that is its module's own. */
  readonly kind: string | undefined;
  /** As /sys/module shows it; undefined for a kind that is not known, and for what can't be read. */
  readonly value: string | Uint8Array | undefined;
  /** Permission bits of its file; 0 when it has none. */
  readonly mode: number;
}

/**
 * @param module the struct module, with its name
 * @returns false when `visit` wants no more
 */
export function walkModuleParameters(
  kernel: Kernel,
  module: Halves,
  name: Uint8Array,
  budget: Budget,
  visit: (parameter: Parameter) => boolean,
): boolean {
  const { kp, num_kp } = kernel.layout(moduleStruct);
  if (kp < 0 || num_kp < 0) return true;
  const at = readPointer(kernel.space, module, kp);
  const count = readU32(kernel.space, module, num_kp);
  if (at === undefined || count === undefined || count > MAX_PARAMETERS) return true;
  return walk(kernel, at, count, budget, (parameter) => visit({ ...parameter, module: name }));
}

/** Of what is built in: a name has its module before the first dot, and none that is of the kernel itself. */
export function walkBuiltInParameters(
  kernel: Kernel,
  budget: Budget,
  visit: (parameter: Parameter) => boolean,
): boolean {
  const start = kernel.optionalPlace(startParam);
  const stop = kernel.optionalPlace(stopParam);
  const { sizeof } = kernel.layout(kernelParam);
  if (start === undefined || stop === undefined || sizeof === 0 || start.hi !== stop.hi) return true;
  const count = Math.floor(((stop.lo >>> 0) - (start.lo >>> 0)) / sizeof);
  if (count > MAX_PARAMETERS) return true;
  return walk(kernel, start, count, budget, (parameter) => {
    const dot = parameter.name.indexOf(DOT);
    const module = dot < 0 ? KERNEL : parameter.name.subarray(0, dot);
    return visit({ ...parameter, module, name: parameter.name.subarray(dot + 1) });
  });
}

const DOT = 0x2e;
const KERNEL = Buffer.from("kernel");
/** MODULE_NAME_LEN and a name as long. */
const MAX_NAME = 256;

function walk(
  kernel: Kernel,
  start: Place,
  count: number,
  budget: Budget,
  visit: (parameter: Omit<Parameter, "module">) => boolean,
): boolean {
  const layout = kernel.layout(kernelParam);
  if (layout.sizeof === 0) return true;
  for (let i = 0; i < count; i++) {
    budget.spend(COST);
    const at = plus(start, i * layout.sizeof);
    const nameAt = readPointer(kernel.space, at, layout.name);
    const name = nameAt && readCString(kernel.space, nameAt, MAX_NAME);
    const perm = readNarrow(kernel, plus(at, layout.perm), 2);
    const ops = readPointer(kernel.space, at, layout.ops);
    const arg = readPointer(kernel.space, at, layout.arg);
    if (name === undefined || perm === undefined || ops === undefined || arg === undefined) continue;
    if (!visit({ name, mode: perm, ...parameterValue(kernel, ops, arg, budget) })) return false;
  }
  return true;
}

/** Of one parameter, beside the elements of an array. */
const COST = 4;

function parameterValue(
  kernel: Kernel,
  ops: Halves,
  arg: Halves,
  budget: Budget,
): { kind: string | undefined; value: Parameter["value"] } {
  const is = (spec: SymbolSpec) => {
    const place = kernel.optionalPlace(spec);
    return place !== undefined && sameAddress(place, ops);
  };
  const simple = kinds.find((candidate) => is(candidate.ops));
  if (simple !== undefined) return { kind: simple.kind, value: simple.format(kernel, arg) };
  if (is(stringOps)) {
    const { string, maxlen } = kernel.layout(kparamString);
    const at = readPointer(kernel.space, arg, string);
    const most = readU32(kernel.space, arg, maxlen);
    const known = at !== undefined && most !== undefined;
    return { kind: "string", value: known ? readCString(kernel.space, at, Math.min(most, MAX_VALUE)) : undefined };
  }
  return is(arrayOps) ? arrayValue(kernel, arg, budget) : { kind: undefined, value: undefined };
}

/** Elements with commas in between (param_array_get). */
function arrayValue(
  kernel: Kernel,
  arg: Halves,
  budget: Budget,
): { kind: string | undefined; value: Parameter["value"] } {
  const layout = kernel.layout(kparamArray);
  const { space } = kernel;
  const ops = readPointer(space, arg, layout.ops);
  const of = ops && kinds.find((candidate) => sameAddress(kernel.optionalPlace(candidate.ops) ?? NOWHERE, ops));
  const num = readPointer(space, arg, layout.num);
  const count = num === undefined || isNull(num) ? readU32(space, arg, layout.max) : readU32(space, num);
  const size = readU32(space, arg, layout.elemsize);
  const elem = readPointer(space, arg, layout.elem);
  if (of === undefined) return { kind: undefined, value: undefined };
  const kind = `array of ${of.kind}`;
  if (count === undefined || size === undefined || elem === undefined || count > MAX_VALUE || size > MAX_VALUE)
    return { kind, value: undefined };
  const parts: Buffer[] = [];
  let length = 0;
  for (let i = 0; i < count && length < MAX_VALUE; i++) {
    budget.spend();
    const part = of.format(kernel, plus(elem, i * size));
    if (part === undefined) return { kind, value: undefined };
    parts.push(Buffer.from(i === 0 ? "" : ","), Buffer.from(part as string));
    length += part.length + 1;
  }
  return { kind, value: Buffer.concat(parts) };
}

const NOWHERE: Halves = { hi: 0, lo: 0 };
