import { GuestError } from "../errors.ts";
import { type CType, declareType, resolveType, type StructField, sizeOfType, type TypeSource } from "./type-model.ts";

/** A member of a structure or union, or an element of an array within it. */
export interface TypeMember {
  /** From the outermost structure: `se.load.weight`, `comm`, `cpus[0]`. Anonymous structures are left out. */
  readonly path: string;
  /** As C declares it: `struct list_head tasks`. */
  readonly declaration: string;
  /** How many structures, anonymous ones too, it is within. */
  readonly depth: number;
  /** Bytes from the start of the outermost structure, and bytes that it takes. */
  readonly offset: number;
  readonly size: number;
  /** For a bit field: bits from `offset`, and how many; both 0 otherwise. */
  readonly bitOffset: number;
  readonly bitSize: number;
  /** Of its own; see {@link TypeSource}. */
  readonly type: number;
}

export interface TypeLayout {
  readonly name: string;
  readonly kind: CType["kind"];
  /** `struct list_head`; of a typedef: `typedef int pid_t`. */
  readonly declaration: string;
  /** Bytes. */
  readonly size: number;
  /** Of a structure or union, those of anonymous ones within it too, in order. */
  readonly members: readonly TypeMember[];
  /** Of an enumeration. */
  readonly values: readonly { readonly name: string; readonly value: bigint }[];
}

/** Anonymous structures within one another, and members altogether; more is not believed. */
const MAX_DEPTH = 16;
const MAX_MEMBERS = 8192;

/**
 * The type of a name: `task_struct`, `struct task_struct`, `enum pid_type`, `pid_t`. Of several, a structure comes before a
 * union, an enumeration, a typedef. Throws GuestError "bad-request" when there is none, or when it is no name.
 */
export function findType(types: TypeSource, asked: string): number {
  const [, word, name] = /^(?:(struct|union|enum)\s+)?(\w[\w ]{0,199})$/.exec(asked.trim()) ?? [];
  // Those that have none are not to be found by it.
  if (name === undefined) {
    const text = "is no name of a type: give one as task_struct, 'struct task_struct', 'enum pid_type' or pid_t";
    throw new GuestError("bad-request", `'${asked.trim()}' ${text}`);
  }
  const found = types.named(name).map((id) => ({ id, kind: types.describe(id)?.kind }));
  const order = word === undefined ? ["struct", "union", "enum", "typedef", "int", "float"] : [word];
  for (const kind of order) {
    const match = found.find((each) => each.kind === kind);
    if (match !== undefined) return match.id;
  }
  throw new GuestError("bad-request", `the kernel has no type '${asked}'${kernelOnly}`);
}

const kernelOnly = "; types of modules are not looked up";

export function layoutOf(types: TypeSource, id: number): TypeLayout {
  const type = types.describe(id)!;
  const resolved = resolveType(types, id)?.type;
  const name = "name" in type ? type.name : "";
  const declaration = type.kind === "typedef" ? `typedef ${declareType(types, type.to, name)}` : declareType(types, id);
  const members: TypeMember[] = [];
  if (resolved?.kind === "struct" || resolved?.kind === "union")
    addMembers(types, resolved.fields, { path: "", bits: 0, depth: 0 }, members);
  const values = resolved?.kind === "enum" ? resolved.values : [];
  return { name, kind: type.kind, declaration, size: sizeOfType(types, id), members, values };
}

function addMembers(
  types: TypeSource,
  fields: readonly StructField[],
  at: { path: string; bits: number; depth: number },
  members: TypeMember[],
): void {
  for (const field of fields) {
    if (members.length >= MAX_MEMBERS) return;
    const member = memberOf(types, field, at);
    members.push(member);
    if (field.name !== "" || at.depth >= MAX_DEPTH) continue;
    const inner = resolveType(types, field.type)?.type;
    if (inner?.kind === "struct" || inner?.kind === "union")
      addMembers(types, inner.fields, { path: at.path, bits: at.bits + field.bits, depth: at.depth + 1 }, members);
  }
}

/** A field of a structure that begins `at.bits` into the outermost one and is called `at.path` there. */
export function memberOf(
  types: TypeSource,
  field: StructField,
  at: { readonly path: string; readonly bits: number; readonly depth: number },
): TypeMember {
  const bits = at.bits + field.bits;
  const bitField = field.width > 0;
  return {
    path: [at.path, field.name].filter((part) => part !== "").join("."),
    declaration: declareType(types, field.type, field.name) + (bitField ? ` : ${field.width}` : ""),
    depth: at.depth,
    offset: bits >>> 3,
    size: sizeOfType(types, field.type),
    bitOffset: bitField ? bits & 7 : 0,
    bitSize: field.width,
    type: field.type,
  };
}
