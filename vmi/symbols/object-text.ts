import type { Budget } from "../budget.ts";
import { declareType, resolveType, sizeOfType, type TypeSource } from "./type-model.ts";
import { memberOf, type TypeMember } from "./type-text.ts";

/** A member of a live object, with its value as text. */
export interface ObjectMember extends TypeMember {
  /** A number, an address with 0x, a text in quotes, an enumerator, bytes as hexadecimal digits; empty for what has members. */
  readonly value: string;
  /** What a pointer points at, where that is a symbol: `init_task+0x10`. */
  readonly symbol: string;
  /** Why there is no value; empty otherwise. */
  readonly error: string;
}

export interface ObjectOptions {
  /** What a pointer points at; empty when nothing is known of it. */
  readonly symbolAt: (address: bigint) => string;
  /** Structures within structures that are opened. */
  readonly depth?: number;
}

const DEFAULT_DEPTH = 3;
const MAX_MEMBERS = 4096;
/** Elements of an array, and bytes of an array of bytes, that are shown. */
const MAX_ELEMENTS = 16;
const MAX_BYTES = 64;
/** Structures within one another, anonymous ones too, whatever depth is asked for. */
const MAX_NESTING = 24;

/** Decodes an object of a type. `bytes` may end early: what is behind them is unreadable. */
export function decodeObject(
  types: TypeSource,
  type: number,
  bytes: Uint8Array,
  budget: Budget,
  options: ObjectOptions,
): ObjectMember[] {
  const members: ObjectMember[] = [];
  const deepest = options.depth ?? DEFAULT_DEPTH;

  /** @param opened named structures that this is within */
  function add(member: TypeMember, opened: number, nesting: number): void {
    if (members.length >= MAX_MEMBERS) return;
    budget.spend();
    const resolved = resolveType(types, member.type)?.type;
    const shown = { ...member, value: "", symbol: "", error: "" };
    members.push(shown);
    const at = members.length - 1;
    const end =
      member.bitSize > 0
        ? member.offset + ((member.bitOffset + member.bitSize + 7) >>> 3)
        : member.offset + member.size;
    // Nothing of what is within it is there either.
    if (member.offset >= bytes.length && member.size > 0) {
      members[at] = { ...shown, error: UNREADABLE };
      return;
    }
    switch (resolved?.kind) {
      case "struct":
      case "union": {
        const anonymous = declaresAnonymous(member);
        if (nesting >= MAX_NESTING || (!anonymous && opened >= deepest)) {
          members[at] = { ...shown, value: resolved.fields.length === 0 ? "{}" : "{…}" };
          return;
        }
        const inside = { path: member.path, bits: member.offset * 8, depth: member.depth + 1 };
        for (const field of resolved.fields)
          add(memberOf(types, field, inside), opened + (anonymous ? 0 : 1), nesting + 1);
        return;
      }
      case "array": {
        const element = resolveType(types, resolved.of)?.type;
        if (element?.kind === "int" && element.size === 1) {
          const there = bytes.subarray(member.offset, member.offset + member.size);
          if (there.length < member.size) members[at] = { ...shown, error: UNREADABLE };
          else members[at] = { ...shown, value: isCharacter(types, resolved.of) ? quoted(there) : digits(there) };
          return;
        }
        const size = sizeOfType(types, resolved.of);
        const count = Math.min(resolved.count, MAX_ELEMENTS);
        if (nesting >= MAX_NESTING || size === 0) return;
        for (let i = 0; i < count; i++) add(elementOf(types, resolved.of, member, i, size), opened, nesting + 1);
        if (count < resolved.count) members[at] = { ...shown, value: `the first ${count} of ${resolved.count}` };
        return;
      }
      default:
        if (end > bytes.length) members[at] = { ...shown, error: UNREADABLE };
        else members[at] = { ...shown, ...scalar(member) };
    }
  }

  function scalar(member: TypeMember): Partial<ObjectMember> {
    const resolved = resolveType(types, member.type)?.type;
    const raw = rawValue(bytes, member);
    switch (resolved?.kind) {
      case "pointer":
        return { value: `0x${raw.toString(16)}`, symbol: raw === 0n ? "" : options.symbolAt(raw) };
      case "int": {
        const value = resolved.signed ? BigInt.asIntN(member.bitSize || member.size * 8, raw) : raw;
        if (resolved.name === "_Bool" && value <= 1n) return { value: value === 1n ? "true" : "false" };
        return { value: value.toString() };
      }
      case "enum": {
        const value = resolved.signed ? BigInt.asIntN(member.bitSize || member.size * 8, raw) : raw;
        const name = resolved.values.find((each) => each.value === value)?.name;
        return { value: name ?? value.toString() };
      }
      case "float":
        return { value: digits(bytes.subarray(member.offset, member.offset + member.size)) };
      default:
        return { error: "of no known type" };
    }
  }

  const whole = resolveType(types, type)?.type;
  const top = { path: "", bits: 0, depth: 0 };
  if (whole?.kind === "struct" || whole?.kind === "union")
    for (const field of whole.fields) add(memberOf(types, field, top), 0, 0);
  else add(memberOf(types, { name: "", type, bits: 0, width: 0 }, top), 0, 0);
  return members;
}

const UNREADABLE = "not in memory";

/** The element of an array, which is not a member of its own. */
function elementOf(types: TypeSource, type: number, array: TypeMember, index: number, size: number): TypeMember {
  const path = `${array.path}[${index}]`;
  return {
    path,
    declaration: declareType(types, type, `[${index}]`),
    depth: array.depth + 1,
    offset: array.offset + index * size,
    size,
    bitOffset: 0,
    bitSize: 0,
    type,
  };
}

function declaresAnonymous(member: TypeMember): boolean {
  return /^(?:struct|union) \{…\}$/.test(member.declaration);
}

function rawValue(bytes: Uint8Array, { offset, size, bitOffset, bitSize }: TypeMember): bigint {
  const length = bitSize > 0 ? (bitOffset + bitSize + 7) >>> 3 : Math.min(size, 8);
  let value = 0n;
  for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[offset + i] ?? 0);
  return bitSize > 0 ? (value >> BigInt(bitOffset)) & ((1n << BigInt(bitSize)) - 1n) : value;
}

/** True for what C calls a char: text, where u8 and the like are bytes. */
function isCharacter(types: TypeSource, id: number): boolean {
  for (let depth = 0; depth < MAX_NESTING; depth++) {
    const type = types.describe(id);
    if (type?.kind === "int") return type.name === "char";
    if (type?.kind !== "qualified") return false;
    id = type.to;
  }
  return false;
}

/** Up to the first zero, as C would write it. */
function quoted(bytes: Uint8Array): string {
  const zero = bytes.indexOf(0);
  const text = Buffer.from(bytes.subarray(0, Math.min(zero < 0 ? bytes.length : zero, 256))).toString("latin1");
  const printable = text.replaceAll(/[^\x20-\x7e]|["\\]/g, (character) =>
    character === '"' || character === "\\"
      ? `\\${character}`
      : `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
  return `"${printable}"`;
}

function digits(bytes: Uint8Array): string {
  const shown = Buffer.from(bytes.subarray(0, MAX_BYTES)).toString("hex");
  return bytes.length > MAX_BYTES ? `${shown}…` : shown;
}
