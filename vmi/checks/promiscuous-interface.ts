import { AF } from "../linux/net/socket.ts";
import { interfaceDetails } from "../tables/interface-details.ts";
import { type CheckRow, defineCheck } from "./check.ts";
import { describeProgram } from "./programs.ts";
import { socketHolders } from "./socket-holders.ts";

/** include/uapi/linux/if.h: as somebody asked for by name (ip link set … promisc on). */
const IFF_PROMISC = 0x100;

export const promiscuousInterface = defineCheck({
  name: "promiscuous-interface",
  severity: "medium",
  cost: "walk",
  compares:
    "How many have asked an interface for packets that are for others (net_device.promiscuity): what tools in the guest show " +
    "(IFF_PROMISC) is only what was asked for by name. A port of a bridge is promiscuous by that alone, and told as info; " +
    "so is whatever else is part of another interface.",
  misses:
    "A sniffer that is content with the packets for this guest: see packet-sockets. On a port of a bridge it adds nothing. " +
    "Hypervisors and macvlan make interfaces promiscuous too.",
  confirm:
    "SELECT interface, promiscuity, flags, master FROM interface_details. In the guest, ip -d link shows promiscuity; the " +
    "kernel's log has 'entered promiscuous mode'.",
  reads: ["net_namespace_list", "net_device.promiscuity, flags and gflags", "netdev_adjacent", "packet_sock"],
  look: (context) => {
    const columns = ["interface", "promiscuity", "flags", "master", "kind", "net_namespace"];
    const found = context
      .rows(interfaceDetails, { columns })
      .filter(({ promiscuity }) => Number(promiscuity ?? 0) !== 0);
    if (found.length === 0) return;
    const holders = socketHolders(context, ({ family }) => family === AF.packet);
    const names = new Map<string, number>();
    for (const device of found) {
      const { promiscuity, master, net_namespace } = device;
      const there = holders.filter(({ sockets }) => sockets.some((socket) => socket.net_namespace === net_namespace));
      const listeners = there.map(({ program }) => describeProgram(program));
      const by = master !== undefined ? `, a port of ${master},` : "";
      const asked = Number(device.flags ?? 0) & IFF_PROMISC ? ", also by name (IFF_PROMISC)" : "";
      const identity = `${device.interface}${master === undefined ? "" : ` of ${master}`}`;
      // Namespaces have other numbers after a restart.
      const same = (names.get(identity) ?? 0) + 1;
      names.set(identity, same);
      context.report({
        what: `interface ${device.interface}${by} takes packets that are for others`,
        where: `interface ${nameOf(device)}`,
        evidence:
          `promiscuity ${promiscuity}${asked}; ` +
          (listeners.length > 0 ? `packet sockets there: ${listeners.join(", ")}` : "nobody has a packet socket there"),
        expected: "promiscuity 0",
        identity: same === 1 ? identity : `${identity} #${same}`,
        severity: master !== undefined && promiscuity === 1 ? "info" : "medium",
      });
    }
  },
});

function nameOf({ interface: name, kind, net_namespace }: CheckRow): string {
  return `${name}${kind === undefined ? "" : ` (${kind})`} of network namespace ${net_namespace}`;
}
