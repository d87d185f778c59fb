import { GuestError } from "../errors.ts";
import { walkNetfilterHooks } from "../linux/netfilter.ts";
import { CELL } from "./columns.ts";
import { functionColumns, pushFunction } from "./function-columns.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a function: `nft list hooks`. */
export const netfilterHooks = defineTable({
  name: "netfilter_hooks",
  description: "Functions that see packets: netfilter's hooks, in each network namespace in the order of the calls",
  columns: {
    net_namespace: integer("Inode of the network namespace", { key: true }),
    family: text("ipv4, ipv6, arp, bridge or netdev", { key: true }),
    hook: text("prerouting, input, forward, output or postrouting; ingress or egress for netdev", { key: true }),
    priority: integer("Functions of a lower one are called first"),
    address: text("Address of the function"),
    ...functionColumns("the function"),
    device: text("Device that a hook of netdev is at; not applicable for others"),
    argument: text("What the function is given: of an nftables chain the address of its struct"),
    registered: integer(
      "1 when function and argument are those that were registered, 0 when the array of calls was changed behind that; unreadable otherwise",
    ),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "net_namespace_list",
    "net.nf (netns_nf: hooks_ipv4 and so on, from 4.16: b0f38338aef2)",
    "nf_hook_entries, nf_hook_entry, nf_hook_ops (from 4.14: 960632ece694)",
    "net_device.nf_hooks_ingress, net_device.nf_hooks_egress (from 5.16: 42df6e1d221d)",
  ],
  examples: [
    "SELECT net_namespace, family, hook, priority, symbol, module FROM netfilter_hooks WHERE module IS NULL OR registered = 0",
    "SELECT module, count(*) AS hooks FROM netfilter_hooks GROUP BY module",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const filter = {
      namespaces: context.keys("net_namespace"),
      families: context.textKeys("family"),
      hooks: context.textKeys("hook"),
    };
    const walk = walkNetfilterHooks(kernel, filter, budget, (hook) => {
      out.net_namespace?.pushOr(hook.netns, CELL.unreadable);
      out.family?.push(hook.family);
      out.hook?.push(hook.hook);
      out.priority?.pushOr(hook.priority, CELL.unreadable);
      out.address?.pushAddress(hook.function.hi, hook.function.lo);
      pushFunction(out, kernel, hook.function, budget);
      out.device?.pushOr(hook.device, CELL.notApplicable);
      out.argument?.pushAddress(hook.priv.hi, hook.priv.lo);
      out.registered?.pushOr(hook.registered === undefined ? undefined : Number(hook.registered), CELL.unreadable);
      return context.row();
    });
    if (!walk.supported) throw new GuestError("unsupported-kernel", `${kernel.release} has no netfilter`);
    context.retried(walk.retried);
    for (const note of walk.missing) context.incomplete(note);
  },
});
