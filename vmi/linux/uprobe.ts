import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { type Addresses, walkList } from "./list.ts";
import { walkRbTree } from "./rbtree.ts";
import { isNull, plus, readPointer } from "./read.ts";

/** kernel/events/uprobes.c: every place of a file that is probed, by inode and offset. */
const tree = symbol("uprobes_tree");

export const uprobe = struct("uprobe", {
  rb_node: "rb_node",
  inode: "inode",
  offset: "offset",
  ref_ctr_offset: "?ref_ctr_offset",
  consumers: "consumers",
});
/** In a list from 6.12 (cc01bd044e6a); before, a chain by `next`. */
const uprobeConsumer = struct("uprobe_consumer", {
  handler: "handler",
  ret_handler: "ret_handler",
  cons_node: "?cons_node",
  next: "?next",
});

const MAX_UPROBES = 1 << 20;
const MAX_CONSUMERS = 1024;

export function walkUprobes(kernel: Kernel, budget: Budget): Addresses {
  return walkRbTree(kernel, kernel.place(tree), kernel.layout(uprobe).rb_node, MAX_UPROBES, budget);
}

export interface UprobeConsumer {
  /** The struct uprobe_consumer. */
  readonly at: Halves;
  readonly handler: Halves;
  readonly returnHandler: Halves;
}

/** Who is called at a probed place; undefined when they can't all be read. */
export function uprobeConsumers(kernel: Kernel, at: Halves, budget: Budget): UprobeConsumer[] | undefined {
  const layout = kernel.layout(uprobeConsumer);
  const { consumers } = kernel.layout(uprobe);
  const found: UprobeConsumer[] = [];
  const add = (consumer: Halves): boolean => {
    const handler = readPointer(kernel.space, consumer, layout.handler);
    const returnHandler = readPointer(kernel.space, consumer, layout.ret_handler);
    if (handler === undefined || returnHandler === undefined) return false;
    found.push({ at: consumer, handler, returnHandler });
    return true;
  };
  if (layout.cons_node >= 0) {
    const list = walkList(kernel, plus(at, consumers), layout.cons_node, MAX_CONSUMERS, budget);
    for (let i = 0; i < list.count; i++) {
      if (!add({ hi: list.hi[i]!, lo: list.lo[i]! })) return undefined;
    }
    return list.complete ? found : undefined;
  }
  if (layout.next < 0) return undefined;
  let consumer = readPointer(kernel.space, at, consumers);
  while (consumer !== undefined && !isNull(consumer) && found.length < MAX_CONSUMERS) {
    budget.spend();
    if (!add(consumer)) return undefined;
    consumer = readPointer(kernel.space, consumer, layout.next);
  }
  return consumer !== undefined && isNull(consumer) ? found : undefined;
}
