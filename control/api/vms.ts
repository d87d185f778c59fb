import type { VmService } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import type { Implementation } from "../../wire/index.ts";
import type { Gate, Session } from "./gate.ts";
import { vmRpcs } from "./rpc.ts";

export function vmService(gate: Gate): Implementation<typeof VmService, Session> {
  return {
    async listVms({ project }, context) {
      using call = await gate.enter(context);
      const vms = await gate.listable(call, project);
      return { vms: vms.map(({ vm }) => vm) };
    },
    async getVm(request, context) {
      using call = await gate.enter(context);
      const { action, detail } = vmRpcs.getVm;
      const { vm, recorded } = await gate.vm(call, { uuid: request.vm, incarnation: "" }, { action }, detail());
      await recorded;
      return { vm: vm.vm };
    },
  };
}
