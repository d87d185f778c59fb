import { Argument, type Command } from "commander";
import type { GuestObject, Space, TypeLayout, TypeMember } from "../../sdk/index.ts";
import { exitCode } from "../exit-code.ts";
import { CliError } from "../failure.ts";
import { sanitise } from "../format/sanitise.ts";
import { formatAddress } from "../format/units.ts";
import type { GuestSource } from "../guests.ts";
import type { Io } from "../io.ts";
import { type Place, parseDepth, parsePid, parsePlace } from "../parse.ts";
import type { CommonOptions } from "../session.ts";
import { groups } from "./command.ts";
import { addOneGuestCommand, type OneGuestCommand } from "./guest-command.ts";
import { resolvePlaces } from "./memory.ts";
import { processOf } from "./tables.ts";

interface TypeOptions extends CommonOptions {
  at?: Place;
  process?: number;
  pid?: number;
  depth?: number;
}

const typeCommand: OneGuestCommand<[string], TypeOptions> = {
  name: "type",
  summary: "Show a type of the kernel: its members and where they are; or a live object of it.",
  description:
    "With --at the object there: numbers, pointers with the symbol that they point at, texts, structures within it.\n" +
    "What is printed before a member is its offset in bytes.",
  examples: ["type VM list_head", "type VM 'enum pid_type'", "type VM task_struct --at init_task", "type VM pid_t"],
  group: groups.memory,
  configure(command, kind) {
    command
      .addArgument(new Argument("<name>", "task_struct, 'struct task_struct', 'enum pid_type', pid_t"))
      .option("--at <address>", "print the object there: 0x… or decimal, or a kernel symbol", parsePlace)
      .option("--process <pid>", "the address is of this process instead of the kernel's", parsePid)
      .option("--depth <levels>", "structures within structures that are opened (default: 3)", parseDepth);
    // In local mode --pid is QEMU's.
    if (kind === "service") command.option("--pid <pid>", "the same as --process", parsePid);
  },
  async run({ printer }, guest, options, name) {
    if (options.at === undefined) {
      const [type] = await guest.types([name]);
      if (type!.error !== "") throw new CliError(exitCode.usage, type!.error);
      return printer.json ? printer.object(layoutRow(type!)) : printer.lines(layoutLines(type!));
    }
    const pid = processOf(options);
    const space: Space = pid === undefined ? "kernel" : { pid };
    const [address = 0n] = await resolvePlaces(guest, [options.at], space);
    const object = await guest.object(name, address, { space, depth: options.depth });
    if (isAbsent(object)) {
      const where = pid === undefined ? "the kernel's space" : `process ${pid}`;
      throw new CliError(
        exitCode.guest,
        `nothing of it can be read: ${formatAddress(address)} is not mapped in ${where}`,
      );
    }
    if (printer.json) await printer.object(objectRow(object));
    else await printer.lines(objectLines(object));
  },
};

/** True when nothing of it could be read; a member without size can't fail to be there. */
function isAbsent({ members }: GuestObject): boolean {
  return (
    members.some(({ error }) => error !== "") && members.every((each) => each.error !== "" || each.member!.size === 0)
  );
}

export function addTypeCommand(parent: Command, io: Io, source: GuestSource): void {
  addOneGuestCommand(parent, io, source, typeCommand);
}

const typeRow = ({ name, kind, declaration, size }: TypeLayout) => ({ name, kind, declaration, size });

function memberRow(member: TypeMember) {
  const { path, declaration, depth, offset, size, bitOffset, bitSize } = member;
  const bits = bitSize === 0 ? {} : { bit_offset: bitOffset, bit_size: bitSize };
  return { path, declaration, depth, offset, size, ...bits };
}

function layoutRow(type: TypeLayout) {
  return {
    ...typeRow(type),
    ...(type.kind === "enum" || type.values.length > 0
      ? { values: type.values.map(({ name, value }) => ({ name, value })) }
      : { members: type.members.map(memberRow) }),
  };
}

function objectRow({ type, address, members }: GuestObject) {
  return {
    ...typeRow(type),
    address: formatAddress(address),
    members: members.map(({ member, value, symbol, error }) => ({
      ...memberRow(member!),
      value: error === "" ? value || null : null,
      symbol: symbol || null,
      error: error || null,
    })),
  };
}

function* layoutLines(type: TypeLayout): Generator<string> {
  const size = `${type.size} bytes`;
  if (type.members.length === 0 && type.values.length === 0) return yield `${sanitise(type.declaration)};  // ${size}`;
  yield `${sanitise(type.declaration)} {  // ${size}`;
  for (const { name, value } of type.values) yield `  ${sanitise(name)} = ${value},`;
  for (const member of type.members) {
    yield `${placeOf(member)}${indent(member)}${sanitise(member.declaration)};`;
  }
  yield "}";
}

function* objectLines({ type, address, members }: GuestObject): Generator<string> {
  yield `${sanitise(type.declaration)} at ${formatAddress(address)} {  // ${type.size} bytes`;
  for (const { member, value, symbol, error } of members) {
    const points = symbol === "" ? "" : `  // ${sanitise(symbol)}`;
    const equals = error === "" ? value && ` = ${sanitise(value)}` : ` (${sanitise(error)})`;
    yield `${placeOf(member!)}${indent(member!)}${sanitise(member!.declaration)}${equals};${points}`;
  }
  yield "}";
}

/** The offset, and for a bit field the bit: `  40:3`. */
function placeOf({ offset, bitOffset, bitSize }: TypeMember): string {
  return (bitSize === 0 ? `${offset}` : `${offset}:${bitOffset}`).padStart(8);
}

const indent = ({ depth }: TypeMember) => "  ".repeat(depth + 1);
