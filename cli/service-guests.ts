import { Code, ConnectError } from "@connectrpc/connect";
import type { CloudVmi, GuestHandle } from "../sdk/index.ts";
import { exitCode } from "./exit-code.ts";
import { CliError } from "./failure.ts";
import type { GuestSource, NamedGuest } from "./guests.ts";
import { nearest } from "./suggest.ts";

/** The caller's VMs, through the service. */
export const serviceGuests: GuestSource = {
  kind: "service",
  async one(session, vm) {
    return findVm(await session.service(), vm ?? "");
  },
  async many(session, vms) {
    const service = await session.service();
    if (vms.length > 0) return vms.map((name) => named(service, name));
    const listed = await service.vms();
    if (listed.length === 0) {
      throw new CliError(exitCode.refused, "you have no VMs: an operator gives them to a project of yours (`cloudvmi vms`)");
    }
    return listed.map((vm): NamedGuest => ({ name: vm.name, host: vm.host, open: async () => service.guest(vm) }));
  },
};

function named(service: CloudVmi, name: string): NamedGuest {
  const guest = {
    name,
    host: "",
    async open() {
      const handle = await findVm(service, name);
      // It may have been named by its UUID.
      if (handle.vm !== undefined) Object.assign(guest, { name: handle.vm.name, host: handle.vm.host });
      return handle;
    },
  };
  return guest;
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
