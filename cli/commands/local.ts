import type { Command } from "commander";
import type { GuestHandle } from "../../sdk/index.ts";
import { usageError } from "../failure.ts";
import type { GuestSource } from "../guests.ts";
import type { Io } from "../io.ts";
import { parsePid } from "../parse.ts";
import { startProgress } from "../progress.ts";
import type { Session } from "../session.ts";
import { addGroup, groups } from "./command.ts";
import { addMemoryCommands } from "./memory.ts";
import { addTableCommands } from "./tables.ts";

interface TargetOptions {
  qmp?: string;
  pid?: number;
  memory?: string;
}

/** A guest of this machine, read by the agent's own sandboxed inspector: no service, no token. */
const localGuests: GuestSource = {
  kind: "local",
  one: (session, _vm, options) => openGuest(session, options),
  async many(session, _vms, options) {
    return [{ name: "", host: "", open: () => openGuest(session, options) }];
  },
};

async function openGuest(session: Session, options: TargetOptions): Promise<GuestHandle> {
  const target = targetOf(options);
  using _progress = startProgress(session.io, "looking for the kernel …");
  const [{ openLocal }, { guestOver }] = await Promise.all([
    import("../../agent/index.ts"),
    import("../../sdk/index.ts"),
  ]);
  const { transport, vm, close } = await openLocal(target, {});
  session.resources.defer(close);
  return guestOver(transport, vm);
}

function targetOf({ qmp, pid, memory }: TargetOptions): { qmp: string } | { pid: number } | { memory: string } {
  const given = [qmp, pid, memory].filter((value) => value !== undefined).length;
  if (given !== 1) {
    const start = given === 0 ? "say which guest" : "only one guest at a time";
    throw usageError(`${start}: --qmp SOCKET, --pid PID of its QEMU process, or --memory FILE`);
  }
  if (qmp !== undefined) return { qmp };
  return pid === undefined ? { memory: memory! } : { pid };
}

export function addLocalCommands(program: Command, io: Io): void {
  const local = addGroup(
    program,
    "local",
    "Read a guest of this machine, or a memory image, without any service.",
    groups.local,
  )
    .option("--qmp <socket>", "QMP socket of a running QEMU")
    .option("--pid <pid>", "process id of a running QEMU", parsePid)
    .option("--memory <file>", "raw image of physical memory, such as `cloudvmi stream` writes");
  addTableCommands(local, io, localGuests);
  addMemoryCommands(local, io, localGuests);
  local.addHelpText(
    "after",
    "\nExamples:\n  $ cloudvmi local ps --qmp /run/web1.qmp\n  $ cloudvmi local modules --pid 4711\n" +
      "  $ cloudvmi local table kernel_info --memory web1.raw --json",
  );
}
