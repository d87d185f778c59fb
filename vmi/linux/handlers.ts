import type { Budget } from "../budget.ts";
import { gvaOf, type Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel, Place } from "./kernel.ts";
import { walkList } from "./list.ts";
import { netNamespaces } from "./net/namespaces.ts";
import { isNull, plus, readPointer, readU32 } from "./read.ts";

/** Functions that lists of handlers lead to: of packets (net/core/dev.c), and of files that are to be run (fs/exec.c). */

/** Until 6.16 (b3a9e4a9bb4d), when each network namespace got its own. */
const packetsOfAll = symbol("?ptype_all");
const packetsByProtocol = symbol("?ptype_base");
const netStruct = struct("?net", { ptype_all: "?ptype_all", ptype_specific: "?ptype_specific" });
const packetType = struct("?packet_type", { type: "type", func: "func", list: "list" });
/** PTYPE_HASH_SIZE */
const PROTOCOL_CHAINS = 16;

/** One that is always in the list (fs/binfmt_elf.c): other files of the kernel have a variable `formats` too. */
const elfFormat = symbol("?elf_format");
const LIST_NAME = "formats";
const linuxBinfmt = struct("?linux_binfmt", { lh: "lh", load_binary: "load_binary" });

const MAX_HANDLERS = 4096;
const ETH_P_ALL = 3;

export interface Handler {
  /** Of the packet_type or linux_binfmt. */
  readonly at: Halves;
  readonly function: Halves;
}

export interface PacketHandler extends Handler {
  /** ETH_P_…; undefined for all. */
  readonly protocol: number | undefined;
}

interface Handlers<T> {
  readonly found: readonly T[];
  readonly complete: boolean;
}

/** As /proc/net/ptype, but for those of single devices. */
export function walkPacketHandlers(kernel: Kernel, budget: Budget): Handlers<PacketHandler> {
  const { list, type, func } = kernel.layout(packetType);
  const heads = list < 0 ? [] : packetHeads(kernel, budget);
  const walks = heads.map((head) => walkHandlers(kernel, head, list, func, budget));
  const found = walks.flatMap((walk) =>
    walk.found.map((handler) => {
      const bits = readU32(kernel.space, handler.at, type) ?? 0;
      // Of network byte order.
      const protocol = ((bits & 0xff) << 8) | ((bits >>> 8) & 0xff);
      return { ...handler, protocol: protocol === ETH_P_ALL ? undefined : protocol };
    }),
  );
  return { found, complete: walks.every(({ complete }) => complete) };
}

function packetHeads(kernel: Kernel, budget: Budget): Place[] {
  const { ptype_all, ptype_specific } = kernel.layout(netStruct);
  const all = kernel.optionalPlace(packetsOfAll);
  const base = kernel.optionalPlace(packetsByProtocol);
  const heads = all === undefined ? [] : [all];
  for (let i = 0; base !== undefined && i < PROTOCOL_CHAINS; i++) heads.push(plus(base, i * LIST_HEAD));
  const members = [ptype_all, ptype_specific].filter((member) => member >= 0);
  if (members.length === 0) return heads;
  const own = netNamespaces(kernel, budget).namespaces;
  return [...heads, ...own.flatMap((net) => members.map((member) => plus(net, member)))];
}

const LIST_HEAD = 16;

/** From that of ELF on; what loads no programs (until 5.19 core dumps only) is left out. */
export function walkBinaryFormats(kernel: Kernel, budget: Budget): Handlers<Handler> {
  const { lh, load_binary } = kernel.layout(linuxBinfmt);
  const elf = kernel.optionalPlace(elfFormat);
  if (elf === undefined || lh < 0) return { found: [], complete: true };
  const own = readPointer(kernel.space, elf, load_binary);
  const walk = walkHandlers(kernel, plus(elf, lh), lh, load_binary, budget);
  const others = walk.found.filter(({ at }) => !isListHead(kernel, plus(at, lh)));
  return { found: own === undefined ? others : [{ at: elf, function: own }, ...others], complete: walk.complete };
}

function isListHead(kernel: Kernel, { hi, lo }: Halves): boolean {
  const address = gvaOf(hi, lo);
  const found = kernel.kallsyms.before(address);
  return found?.address === address && found.name === LIST_NAME;
}

function walkHandlers(kernel: Kernel, head: Place, list: number, member: number, budget: Budget): Handlers<Handler> {
  const walk = walkList(kernel, head, list, MAX_HANDLERS, budget);
  const found: Handler[] = [];
  for (let i = 0; i < walk.count; i++) {
    const at = { hi: walk.hi[i]!, lo: walk.lo[i]! };
    const called = readPointer(kernel.space, at, member);
    if (called !== undefined && !isNull(called)) found.push({ at, function: called });
  }
  return { found, complete: walk.complete };
}
