import type { Budget } from "../../budget.ts";
import type { Halves } from "../../bytes/address.ts";
import { struct, symbol } from "../../symbols/specs.ts";
import type { Kernel } from "../kernel.ts";
import { walkList } from "../list.ts";
import { isNull, readPointer, readU32 } from "../read.ts";

/** include/net/net_namespace.h: a network namespace. What hangs on it is declared where it is walked. */
const net = struct("net", { list: "list", inum: "ns.inum" });
const namespaceList = symbol("?net_namespace_list");
const initNet = symbol("init_net");

/** There is no limit but memory; a namespace takes tens of kilobytes of it. */
const MAX_NAMESPACES = 1 << 20;

export interface NetNamespaces {
  readonly namespaces: readonly Halves[];
  readonly complete: boolean;
  readonly retried: number;
}

/** The network namespaces that there are, the first one first: for_each_net. */
export function netNamespaces(kernel: Kernel, budget: Budget): NetNamespaces {
  const head = kernel.optionalPlace(namespaceList);
  if (head === undefined) return { namespaces: [kernel.place(initNet)], complete: true, retried: 0 };
  const found = walkList(kernel, head, kernel.layout(net).list, MAX_NAMESPACES, budget);
  const namespaces = found.hi.map((hi, i) => ({ hi, lo: found.lo[i]! }));
  return { namespaces, complete: found.complete, retried: found.retried };
}

/** The inode number that /proc/PID/ns/net shows for a struct net. */
export function netInode(kernel: Kernel, at: Halves): number | undefined {
  return readU32(kernel.space, at, kernel.layout(net).inum);
}

/** The struct net that a possible_net_t holds; without CONFIG_NET_NS it has no member, and there is only one. */
export function netAt(kernel: Kernel, holder: Halves, member: number): Halves | undefined {
  if (member < 0) return kernel.place(initNet);
  const at = readPointer(kernel.space, holder, member);
  return at === undefined || isNull(at) ? undefined : at;
}

/** The inode numbers of namespaces, each looked up once in a request. */
export class NetInodes {
  readonly #kernel: Kernel;
  readonly #known = new Map<string, number | undefined>();
  #last: Halves = { hi: 0, lo: 0 };
  #lastInode: number | undefined;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  of(at: Halves | undefined): number | undefined {
    if (at === undefined) return undefined;
    if (at.lo === this.#last.lo && at.hi === this.#last.hi) return this.#lastInode;
    const key = `${at.hi}:${at.lo}`;
    if (!this.#known.has(key)) this.#known.set(key, netInode(this.#kernel, at));
    this.#last = at;
    this.#lastInode = this.#known.get(key);
    return this.#lastInode;
  }
}
