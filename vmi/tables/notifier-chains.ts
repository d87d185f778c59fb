import { walkNotifiers } from "../linux/notifiers.ts";
import { CELL } from "./columns.ts";
import { functionColumns, pushFunction } from "./function-columns.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a callback. */
export const notifierChains = defineTable({
  name: "notifier_chains",
  description:
    "What is called on events in the kernel: its notifier chains, by the names of their heads in the kernel's image. " +
    "Chains of modules, and of single objects, are not among them",
  columns: {
    chain: text("Name of the chain's head", { key: true }),
    kind: text("How it is protected: atomic, blocking, raw or srcu"),
    priority: integer("Callbacks of a higher one are called first"),
    address: text("Address of the callback"),
    ...functionColumns("the callback"),
    position: integer("Place in the chain, from 0"),
    net_namespace: integer(
      "Inode of the network namespace that the chain belongs to; not applicable for the whole kernel's",
    ),
    block: text("Address of the struct notifier_block"),
    block_symbol: text("Symbol of that, where it is a variable of the kernel or of a module"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "notifier_block",
    "atomic_notifier_head, blocking_notifier_head, raw_notifier_head, srcu_notifier_head",
    "net_namespace_list",
    "net.netdev_chain (from 5.5: a30cfa4751d5)",
  ],
  examples: [
    "SELECT chain, address, symbol FROM notifier_chains WHERE module IS NULL",
    "SELECT chain, count(*) AS callbacks FROM notifier_chains GROUP BY chain",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const broken = walkNotifiers(
      kernel,
      context.textKeys("chain"),
      budget,
      ({ chain, kind, priority, callback, position, netns, block }) => {
        out.chain?.push(chain);
        out.kind?.push(kind);
        out.priority?.push(priority);
        out.address?.pushAddress(callback.hi, callback.lo);
        pushFunction(out, kernel, callback, budget);
        out.position?.push(position);
        out.net_namespace?.pushOr(netns, CELL.notApplicable);
        out.block?.pushAddress(block.hi, block.lo);
        pushFunction({ symbol: out.block_symbol, module: undefined }, kernel, block, budget);
        return context.row();
      },
    );
    for (const chain of broken) context.incomplete(`the notifier chain ${chain} could not be followed to its end`);
  },
});
