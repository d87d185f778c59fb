import { Code, ConnectError } from "@connectrpc/connect";
import type { CloudVmi, GuestHandle, Vm } from "../sdk/index.ts";
import { nearest } from "../sql/nearest.ts";
import { exitCode } from "./exit-code.ts";
import { CliError } from "./failure.ts";
import type { GuestSource, NamedGuest } from "./guests.ts";

/** The caller's VMs, through the service. */
export const serviceGuests: GuestSource = {
  kind: "service",
  async one(session, vm) {
    return findVm(await session.service(), vm ?? "");
  },
  async many(session, names) {
    const service = await session.service();
    const [only] = names;
    if (only !== undefined && names.length === 1) return [guestNamed(service, only, undefined)];
    const listed = await service.vms();
    if (names.length > 0) return names.map((name) => guestNamed(service, name, uniqueVm(listed, name)));
    if (listed.length === 0) {
      throw new CliError(
        exitCode.refused,
        "you have no VMs: an operator gives them to a project of yours (`cloudvmi vms`)",
      );
    }
    return listed.map((vm) => guestNamed(service, vm.id?.uuid ?? "", vm));
  },
};

function guestNamed(service: CloudVmi, name: string, vm: Vm | undefined): NamedGuest {
  return { name: vm?.name || name, host: vm?.host ?? "", open: () => findVm(service, name) };
}

/** Which host it is on, for the listing; whether the name is good is the service's to say. */
function uniqueVm(vms: readonly Vm[], name: string): Vm | undefined {
  const found = vms.filter((vm) => vm.id?.uuid === name.toLowerCase() || vm.name === name);
  return found.length === 1 ? found[0] : undefined;
}

/** The VM of this name or UUID; for one that isn't there, the one of the caller's that was probably meant. */
async function findVm(service: CloudVmi, name: string): Promise<GuestHandle> {
  try {
    return await service.vm(name);
  } catch (error) {
    if (!(error instanceof ConnectError && error.code === Code.NotFound)) throw error;
    const names = await service.vms().then(
      (vms) => vms.map((vm) => vm.name),
      () => [],
    );
    const meant = nearest(name, names);
    const next = meant === undefined ? "`cloudvmi vms` lists yours" : `did you mean '${meant}'?`;
    throw new CliError(exitCode.refused, `there is no VM '${name}': ${next}`, { cause: error });
  }
}
