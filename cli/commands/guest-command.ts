import type { Command } from "commander";
import type { GuestHandle } from "../../sdk/index.ts";
import type { GuestSource, NamedGuest } from "../guests.ts";
import type { Io } from "../io.ts";
import { action, type Session } from "../session.ts";
import { addCommand, type CommandText } from "./command.ts";

interface Definition extends CommandText {
  name: string;
  /** Lines with `VM` where the guest is named; see example(). */
  examples: readonly string[];
  group: string;
  /** Arguments and options besides the VMs. */
  configure?(command: Command, kind: GuestSource["kind"]): void;
}

/** A guest, and what the user calls it. */
export type CalledGuest = GuestHandle & { readonly called: string };

/**
 * A command that reads one guest: its first argument is the VM (in local mode there is none).
 * One definition serves both, so `cloudvmi read web1 …` and `cloudvmi local read …` can't drift apart.
 */
export interface OneGuestCommand<A extends unknown[], O> extends Definition {
  run(session: Session, guest: CalledGuest, options: O, ...args: A): Promise<void>;
}

/** A command over any number of guests: its last argument is a list of VMs, all of them when empty. */
export interface ManyGuestsCommand<A extends unknown[], O> extends Definition {
  run(session: Session, guests: NamedGuest[], scope: Scope, options: O, ...args: A): Promise<void>;
}

/** Whether rows must say which VM they are of. */
export interface Scope {
  /** Exactly one VM was named (or local mode): one answer. */
  single: boolean;
  local: boolean;
}

/** "read VM 0x1000" → "read web1 0x1000", or for local mode "local read 0x1000 --qmp web1.qmp". */
function example(line: string, kind: GuestSource["kind"]): string {
  if (kind === "service") return line.replace(/\bVM\b/, "web1");
  return `local ${line.replace(/ VM\b/, "")} --qmp web1.qmp`;
}

const examplesFor = (definition: Definition, kind: GuestSource["kind"]) => [
  ...new Set(definition.examples.map((line) => example(line, kind))),
];

export function addOneGuestCommand<A extends unknown[], O extends object>(
  parent: Command,
  io: Io,
  source: GuestSource,
  definition: OneGuestCommand<A, O>,
): void {
  const text = { ...definition, examples: examplesFor(definition, source.kind) };
  const command = addCommand(parent, definition.name, text, source.kind === "service" ? definition.group : undefined);
  if (source.kind === "service") command.argument("<vm>", "name or UUID, as `cloudvmi vms` shows it");
  definition.configure?.(command, source.kind);
  command.action(
    action(io, async (session: Session, options: O, ...args: unknown[]) => {
      const vm = source.kind === "service" ? (args.shift() as string) : undefined;
      const guest = await source.one(session, vm, options);
      await definition.run(session, { ...guest, called: vm ?? "" }, options, ...(args as A));
    }),
  );
}

export function addManyGuestsCommand<A extends unknown[], O extends object>(
  parent: Command,
  io: Io,
  source: GuestSource,
  definition: ManyGuestsCommand<A, O>,
): void {
  const text = { ...definition, examples: examplesFor(definition, source.kind) };
  const command = addCommand(parent, definition.name, text, source.kind === "service" ? definition.group : undefined);
  definition.configure?.(command, source.kind);
  if (source.kind === "service") {
    command.argument("[vm...]", "names or UUIDs, as `cloudvmi vms` shows them (default: all of them)");
  }
  command.action(
    action(io, async (session: Session, options: O & { vm?: string[] }, ...args: unknown[]) => {
      const listed = source.kind === "service" ? ((args.pop() as string[] | undefined) ?? []) : [];
      const vms = [...new Set([...listed, ...(options.vm ?? [])])];
      const guests = await source.many(session, vms, options);
      const scope = { single: source.kind === "local" || vms.length === 1, local: source.kind === "local" };
      await definition.run(session, guests, scope, options, ...(args as A));
    }),
  );
}
