import { access, stat } from "node:fs/promises";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import type { Command } from "commander";
import type { Layer, LocalGuest, LocalTarget } from "../../agent/index.ts";
import { GuestService, TableSpecSchema, VmIdSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { GuestHandle, TableSpec } from "../../sdk/index.ts";
import type { TableRead } from "../../sql/index.ts";
import { type ExitCode, exitCode } from "../exit-code.ts";
import { CliError, usageError } from "../failure.ts";
import { cacheFolder } from "../folders.ts";
import type { GuestSource } from "../guests.ts";
import type { Io } from "../io.ts";
import { parseLayers } from "../layers.ts";
import { parsePid } from "../parse.ts";
import { startProgress } from "../progress.ts";
import type { Session } from "../session.ts";
import { addChecksCommand } from "./checks.ts";
import { addGroup, groups } from "./command.ts";
import { addMemoryCommands } from "./memory.ts";
import { addScanCommand } from "./scan.ts";
import { addSqlCommand, type SqlSource } from "./sql.ts";
import { addTableCommands } from "./tables.ts";
import { addTypeCommand } from "./types.ts";

interface TargetOptions {
  qmp?: string;
  pid?: number;
  memory?: string;
  allowMissing?: Layer[];
  types?: string;
  kernelImage?: string;
}

/** A guest of this machine, read by the agent's own sandboxed inspector: no service, no token. */
const localGuests: GuestSource = {
  kind: "local",
  one: (session, _vm, options) => openGuest(session, options),
  async many(session, _vms, options) {
    const tables = isGiven(options) ? undefined : allTables;
    return [{ name: "", host: "", open: () => openGuest(session, options), tables }];
  },
};

const isGiven = ({ qmp, pid, memory }: TargetOptions) => (qmp ?? pid ?? memory) !== undefined;

/** The tables that the inspector of this program has. */
async function allTables(): Promise<TableSpec[]> {
  const { tableSpecs } = await import("../../agent/index.ts");
  return tableSpecs().map((spec) => create(TableSpecSchema, spec));
}

async function openGuest(session: Session, options: TargetOptions): Promise<GuestHandle> {
  const [{ transport, vm }, { guestOver }] = await Promise.all([
    openTarget(session, options),
    import("../../sdk/index.ts"),
  ]);
  return guestOver(transport, create(VmIdSchema, vm));
}

/** SQL over the one guest, run in this process; its name in the column `vm` is "local". */
const localSql: SqlSource = {
  kind: "local",
  async open(session, _vms, options) {
    const [{ transport, vm }, { guestOver, sqlReading }, { runSql, sqlTables }] = await Promise.all([
      openTarget(session, options),
      import("../../sdk/index.ts"),
      import("../../sql/index.ts"),
    ]);
    const id = create(VmIdSchema, vm);
    const specs = await guestOver(transport, id).tables();
    const read = ({ table, columns, where, limit, signal }: TableRead) =>
      transport.streamEncoded(
        GuestService.method.readTable,
        {
          vm: id,
          table,
          columns: [...columns],
          where: where.map(({ column, values }) => ({ column, values: [...values] })),
          limit: BigInt(limit),
        },
        { signal },
      );
    const asked = { tables: sqlTables(specs), vms: ["local"], read };
    return {
      tables: async () => specs,
      run: (statement, signal) => sqlReading(() => runSql(statement, { ...asked, signal })),
    };
  },
};

/** Opens the guest that the options name; it is closed when the command ends. */
async function openTarget(session: Session, options: TargetOptions): Promise<LocalGuest> {
  const target = await targetOf(options);
  await requireContent(options.types);
  using _progress = startProgress(session.io, "looking for the kernel …");
  const { openLocal } = await import("../../agent/index.ts");
  const tell = (line: string) => void (session.common.verbose && session.printer.note(line));
  let guest: LocalGuest;
  try {
    guest = await openLocal(target, {
      allowMissing: options.allowMissing,
      profiles: join(cacheFolder(session.io.env), "profiles"),
      types: options.types,
      kernelImage: options.kernelImage,
      log: tell,
    });
  } catch (error) {
    throw explained(error);
  }
  session.resources.defer(() => guest.close());
  for (const warning of guest.warnings) tell(warning);
  if (options.types !== undefined) await tryTypes(guest, options.types);
  return guest;
}

/** Without a byte it would be as if it had not been given. */
async function requireContent(types: string | undefined): Promise<void> {
  if (types === undefined) return;
  const { size } = await stat(types).catch((error: unknown) => {
    throw new CliError(exitCode.refused, `${types}: there is no such file that you may read`, { cause: error });
  });
  if (size === 0) {
    throw usageError(`the types that were supplied (${types}) are damaged: the file is empty`);
  }
}

/** Has the kernel found with them, so that what is wrong with the file is told by its name: the inspector knows none. */
async function tryTypes({ transport, vm }: LocalGuest, file: string): Promise<void> {
  const { guestOver } = await import("../../sdk/index.ts");
  try {
    await guestOver(transport, create(VmIdSchema, vm)).symbols({ names: ["_stext"] });
  } catch (error) {
    if (!(error instanceof ConnectError) || !/\bthat were supplied\b/.test(error.rawMessage)) throw error;
    throw new ConnectError(error.rawMessage.replace("that were supplied", `$& (${file})`), error.code);
  }
}

/** What opening a guest fails with has no status of the service: whose turn it is follows from the error's kind. */
function explained(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const fail = (exit: ExitCode, text = error.message) => new CliError(exit, text, { cause: error });
  switch (error.name) {
    case "QmpError": {
      const kind: unknown = Reflect.get(error, "kind");
      if (kind === "not-qmp") return fail(exitCode.usage);
      return fail(kind === "unreachable" ? exitCode.refused : exitCode.failed);
    }
    case "RamError":
    case "ImageError":
      return fail(exitCode.guest);
    case "SandboxError":
      return fail(exitCode.failed, `${error.message} (here: --allow-missing LAYERS)`);
    default:
      return error;
  }
}

async function targetOf({ qmp, pid, memory }: TargetOptions): Promise<LocalTarget> {
  const given = [qmp, pid, memory].filter((value) => value !== undefined).length;
  if (given !== 1) {
    const start = given === 0 ? "say which guest" : "only one guest at a time";
    throw usageError(`${start}: --qmp SOCKET, --pid PID of its QEMU process, or --memory FILE`);
  }
  if (pid !== undefined) return { pid };
  const path = qmp ?? memory ?? "";
  await access(path).catch((error: unknown) => {
    throw new CliError(exitCode.refused, `${path}: there is no such file that you may read`, { cause: error });
  });
  return qmp === undefined ? { memory: path } : { qmp };
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
    .option("--memory <file>", "raw image of physical memory, such as `cloudvmi stream` writes")
    .option(
      "--types <file>",
      "types of the guest's kernel, BTF or ISF, in place of its own; symbols too (ISF) if it has none",
    )
    .option("--kernel-image <file>", "image of the guest's kernel (vmlinuz), which `checks` compares its text with")
    .option("--allow-missing <layers>", "what this machine may lack: namespaces, uid, seccomp", parseLayers);
  addTableCommands(local, io, localGuests);
  addChecksCommand(local, io, localGuests);
  addMemoryCommands(local, io, localGuests);
  addSqlCommand(local, io, localSql);
  addTypeCommand(local, io, localGuests);
  addScanCommand(local, io, localGuests);
  local.addHelpText(
    "after",
    "\nExamples:\n  $ cloudvmi local ps --qmp /run/web1.qmp\n  $ cloudvmi local modules --pid 4711\n" +
      "  $ cloudvmi local table kernel_info --memory web1.raw --json\n  $ cloudvmi local tables",
  );
}
