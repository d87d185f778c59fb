import type { Command } from "commander";
import type { Vm } from "../../sdk/index.ts";
import { exitCode } from "../exit-code.ts";
import { CliError } from "../failure.ts";
import { formatBytes } from "../format/units.ts";
import type { Io } from "../io.ts";
import type { ListColumn } from "../print.ts";
import { action, type CommonOptions, type Session } from "../session.ts";
import { addCommand, groups } from "./command.ts";

const statusNames: Record<Vm["status"], string> = {
  0: "unknown",
  1: "running",
  2: "paused",
  3: "shut down",
  4: "unreachable",
};

/** A VM as `--json` prints it. */
export function vmRow(vm: Vm) {
  return {
    name: vm.name,
    uuid: vm.id?.uuid ?? "",
    incarnation: vm.id?.incarnation ?? "",
    project: vm.project,
    host: vm.host,
    status: statusNames[vm.status],
    memory_bytes: vm.memoryBytes,
    vcpus: vm.vcpus,
    architecture: vm.architecture,
    hypervisor: vm.hypervisor,
    labels: vm.labels,
  };
}

export const vmColumns: ListColumn[] = [
  { name: "name" },
  { name: "project" },
  { name: "host" },
  { name: "status" },
  { name: "memory_bytes", title: "memory", align: "right", format: (value) => formatBytes(value as bigint) },
  { name: "vcpus", align: "right" },
  { name: "labels", format: (value) => labelText(value as Record<string, string>) },
  { name: "uuid", whole: true },
];

function labelText(labels: Record<string, string>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");
}

export function addFleetCommands(program: Command, io: Io): void {
  addCommand(
    program,
    "vms",
    {
      summary: "List the virtual machines of your projects, on all hosts.",
      examples: ["vms", "vms --project shop", "vms --json"],
    },
    groups.fleet,
  )
    .option("--project <name>", "only those of one project")
    .action(
      action(io, async (session: Session, options: CommonOptions & { project?: string }) => {
        const service = await session.service();
        const vms = await service.vms(options.project === undefined ? undefined : { project: options.project });
        await session.printer.list(vms.map(vmRow), vmColumns);
        if (vms.length === 0 && !session.printer.json) {
          await session.printer.note(
            "no VM of yours: an operator gives a project its VMs with `cloudvmi admin owner set`",
          );
        }
      }),
    );

  addCommand(
    program,
    "health",
    {
      summary: "Ask the service whether it is ready; exits 1 when it isn't.",
      examples: ["health", "health --json"],
    },
    groups.fleet,
  ).action(
    action(io, async (session: Session) => {
      const service = await session.service();
      const health = await service.health();
      const row = {
        ready: health.ready,
        version: health.version,
        agents: health.agents,
        agents_reachable: health.agentsReachable,
      };
      await session.printer.object(row);
      if (!health.ready) throw new CliError(exitCode.failed, "the service is not ready: ask its operator");
    }),
  );
}
