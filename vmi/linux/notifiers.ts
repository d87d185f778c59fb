import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { netInode, netNamespaces } from "./net/namespaces.ts";
import { isNull, plus, readPointer, readU32 } from "./read.ts";

/** include/linux/notifier.h */
const block = struct("?notifier_block", { notifier_call: "notifier_call", next: "next", priority: "priority" });
const heads = {
  atomic: struct("?atomic_notifier_head", { head: "head" }),
  blocking: struct("?blocking_notifier_head", { head: "head" }),
  raw: struct("?raw_notifier_head", { head: "head" }),
  srcu: struct("?srcu_notifier_head", { head: "head" }),
};
export type NotifierKind = keyof typeof heads;
/** From 5.5 (a30cfa4751d5) each network namespace has a chain of its own too. */
const netStruct = struct("?net", { netdev_chain: "?netdev_chain" });

/** Chains of the kernel's image by their heads. BTF does not say of what type a variable is. */
const known: readonly (readonly [NotifierKind, string])[] = [
  ["atomic", "panic_notifier_list"],
  ["atomic", "die_chain"],
  ["atomic", "restart_handler_list"],
  ["atomic", "power_off_handler_list"],
  ["blocking", "reboot_notifier_list"],
  ["blocking", "restart_prep_handler_list"],
  ["blocking", "power_off_prep_handler_list"],
  ["blocking", "pm_chain_head"],
  ["raw", "cpu_pm_notifier"],
  ["blocking", "module_notify_list"],
  ["blocking", "tracepoint_notify_list"],
  ["blocking", "oom_notify_list"],
  ["blocking", "vmap_notify_list"],
  ["blocking", "memory_chain"],
  ["blocking", "blocking_lsm_notifier_chain"],
  ["blocking", "crypto_chain"],
  ["atomic", "fips_fail_notif_chain"],
  ["blocking", "acpi_chain_head"],
  ["blocking", "acpi_reconfig_chain"],
  ["blocking", "acpi_hed_notify_list"],
  ["blocking", "vendor_record_notify_list"],
  ["blocking", "x86_mce_decoder_chain"],
  ["raw", "pvclock_gtod_chain"],
  ["raw", "xen_resume_notifier"],
  ["blocking", "xenstore_chain"],
  ["srcu", "cpufreq_transition_notifier_list"],
  ["blocking", "cpufreq_policy_notifier_list"],
  ["atomic", "keyboard_notifier_list"],
  ["atomic", "vt_notifier_list"],
  ["blocking", "fb_notifier_list"],
  ["srcu", "lease_notifier_chain"],
  ["raw", "netdev_chain"],
  ["atomic", "netevent_notif_chain"],
  ["blocking", "netlink_chain"],
  ["blocking", "inetaddr_chain"],
  ["blocking", "inetaddr_validator_chain"],
  ["atomic", "inet6addr_chain"],
  ["blocking", "inet6addr_validator_chain"],
  ["atomic", "dcbevent_notif_chain"],
  ["atomic", "switchdev_notif_chain"],
];
const chains = known.map(([kind, name]) => ({ kind, name, head: symbol(`?${name}`) }));

/** Longer chains are not believed. */
const MAX_BLOCKS = 1024;

export interface Notifier {
  readonly chain: string;
  readonly kind: NotifierKind;
  /** Inode of the network namespace that the chain is of; undefined for one that is the whole kernel's. */
  readonly netns: number | undefined;
  /** Place in the chain, from 0: the order in which they are called. */
  readonly position: number;
  /** Address of the struct notifier_block. */
  readonly block: Halves;
  readonly callback: Halves;
  readonly priority: number;
}

/**
 * Visits what is registered with every known chain, in the order of the calls.
 *
 * @param wanted names of chains; undefined: all
 * @returns names of the chains that could not be followed to their end
 */
export function walkNotifiers(
  kernel: Kernel,
  wanted: ReadonlySet<string> | undefined,
  budget: Budget,
  visit: (notifier: Notifier) => boolean,
): string[] {
  const broken: string[] = [];
  let more = true;
  const walk = (chain: string, kind: NotifierKind, netns: number | undefined, at: Halves) => {
    const complete = walkChain(kernel, plus(at, kernel.layout(heads[kind]).head), budget, (found) => {
      more = visit({ ...found, chain, kind, netns });
      return more;
    });
    if (!complete) broken.push(chain);
  };
  for (const { kind, name, head } of chains) {
    const at = wanted?.has(name) === false ? undefined : kernel.optionalPlace(head);
    if (at === undefined || kernel.layout(heads[kind]).head < 0) continue;
    walk(name, kind, undefined, at);
    if (!more) return broken;
  }
  const { netdev_chain } = kernel.layout(netStruct);
  if (wanted?.has("netdev_chain") === false || netdev_chain < 0 || kernel.layout(heads.raw).head < 0) return broken;
  for (const net of netNamespaces(kernel, budget).namespaces) {
    walk("netdev_chain", "raw", netInode(kernel, net), plus(net, netdev_chain));
    if (!more) break;
  }
  return broken;
}

/** False when the chain could not be followed to its end, or comes back to itself. */
function walkChain(
  kernel: Kernel,
  head: Halves,
  budget: Budget,
  visit: (notifier: Pick<Notifier, "position" | "block" | "callback" | "priority">) => boolean,
): boolean {
  const layout = kernel.layout(block);
  if (layout.next < 0) return false;
  const seen = new Set<string>();
  let at = readPointer(kernel.space, head);
  for (let position = 0; at !== undefined && !isNull(at); position++) {
    const key = `${at.hi}:${at.lo}`;
    if (position === MAX_BLOCKS || seen.has(key)) return false;
    seen.add(key);
    budget.spend();
    const callback = readPointer(kernel.space, at, layout.notifier_call);
    const next = readPointer(kernel.space, at, layout.next);
    const priority = readU32(kernel.space, at, layout.priority);
    if (callback === undefined || next === undefined || priority === undefined) return false;
    if (!visit({ position, block: at, callback, priority: priority | 0 })) return true;
    at = next;
  }
  return at !== undefined;
}
