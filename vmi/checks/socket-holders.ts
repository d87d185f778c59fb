import { AF } from "../linux/net/socket.ts";
import { processOpenSockets } from "../tables/process-open-sockets.ts";
import type { CheckContext, CheckRow, Severity } from "./check.ts";
import { baseName, describeProgram, identify, isSystemProgram, type Program, programs } from "./programs.ts";

/** What has raw or packet sockets for what it is made for: addresses, routes, neighbours, whether somebody answers. */
const NETWORK_PROGRAMS: ReadonlySet<string> = new Set(
  [
    "systemd-networkd NetworkManager nm-dhcp-helper dhclient dhcpcd udhcpc udhcpd dhcpd dhcrelay kea-dhcp4 kea-dhcp6 dnsmasq",
    "connmand wicked wickedd-dhcp4 wickedd-dhcp6 wpa_supplicant hostapd iwd pppd pppoe pppoe-server accel-pppd charon",
    "keepalived vrrpd conntrackd bird bird6 zebra ospfd ospf6d isisd eigrpd pimd pim6d ldpd bfdd radvd ndppd igmpproxy mrouted",
    "ping ping6 fping fping6 arping traceroute mtr mtr-packet clockdiff smokeping blackbox_exporter xtables-legacy-multi",
    "lldpd lldpad ladvd arpwatch avahi-autoipd ptp4l ovs-vswitchd rarpd in.rarpd rdisc cilium-agent speaker",
  ].flatMap((line) => line.split(" ")),
);
/** What is made to see other people's packets. */
const CAPTURING: ReadonlySet<string> = new Set(
  "tcpdump dumpcap tshark wireshark ngrep snort suricata zeek nmap netsniff-ng tcpflow iftop nethogs".split(" "),
);

export interface SocketHolder {
  readonly program: Program;
  readonly sockets: readonly CheckRow[];
  /** By what the program is: its name is believed where systems have their programs. */
  readonly severity: Severity;
}

/** include/linux/socket.h: packets before the kernel has seen them, in memory shared with the program. */
export const AF_XDP = 44;

/** Sockets that get more than what is meant for them: for CheckContext.shared, as two checks look at them. */
function openSockets(context: CheckContext): CheckRow[] {
  const columns = ["pid", "fd", "family", "type", "protocol", "local_address", "net_namespace", "socket"];
  const families = [AF.inet, AF.inet6, AF.packet, AF_XDP].map(String);
  const types = ["raw", "dgram", "packet"];
  const where = [
    { column: "family", values: families },
    { column: "type", values: types },
  ];
  return context.rows(processOpenSockets, { columns, where });
}

/** What both checks say of whom they believe. */
export const BELIEVED =
  "Names are believed in the directories of a system's programs (bin, sbin, lib and libexec, of /, /usr and /usr/local), by the path that " +
  "the process's own mount namespace has: a container has its own. Known programs elsewhere (/opt, /snap, Nix) are reported as medium.";

/** Sockets that one check is about. */
export interface SocketsOfInterest {
  /** "raw sockets" */
  readonly called: string;
  /** Whom they are for: "programs that configure networks". */
  readonly users: string;
  isOne(socket: CheckRow): boolean;
  /** What a socket gets, for people. */
  kindOf(socket: CheckRow): string;
}

/** One finding a process that has such sockets open. */
export function reportHolders(context: CheckContext, { called, users, isOne, kindOf }: SocketsOfInterest): void {
  for (const { program, sockets, severity } of socketHolders(context, isOne)) {
    const kinds = [...new Set(sockets.map(kindOf))].sort();
    const list = sockets.map((socket) => {
      const bound = socket.local_address === undefined ? "" : `, bound to ${socket.local_address}`;
      return `descriptor ${socket.fd}, inode ${socket.socket}: ${kindOf(socket)}${bound}`;
    });
    context.report({
      what: `${describeProgram(program)} has ${called}: ${kinds.join(", ")}`,
      where: describeProgram(program),
      evidence: list.join("; "),
      expected: `${called} in the hands of ${users}`,
      identity: `${identify(program)} ${kinds.join(" ")}`,
      severity,
      pid: program.pid,
    });
  }
}

/** The processes that have such sockets open, of those that are wanted. */
export function socketHolders(context: CheckContext, wanted: (socket: CheckRow) => boolean): SocketHolder[] {
  const rows = context.shared(openSockets).filter(wanted);
  if (rows.length === 0) return [];
  const all = context.shared(programs);
  return [...Map.groupBy(rows, (row) => row.pid as number)].map(([pid, sockets]) => {
    const program = all.get(pid) ?? {
      pid,
      name: "?",
      path: undefined,
      commandLine: undefined,
      parent: 0,
      kernelThread: false,
    };
    return { program, sockets, severity: severityOf(program) };
  });
}

function severityOf({ path }: Program): Severity {
  if (path === undefined || !isSystemProgram(path)) return "medium";
  const program = baseName(path);
  return NETWORK_PROGRAMS.has(program) ? "info" : CAPTURING.has(program) ? "low" : "medium";
}
