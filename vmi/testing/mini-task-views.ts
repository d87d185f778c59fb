import type { MiniKernel, Thing } from "./mini-kernel.ts";

/** include/uapi/linux/magic.h: STACK_END_MAGIC */
const STACK_END = 0x57ac_6e9d;
const STACK_SIZE = 1 << 14;
/** Of an xa_node. */
const SLOT_BITS = 6;

/** Puts tasks where the kernel has them beside its list: their parents' children, the tree of pid numbers; and gives them stacks. */
export function addTaskViews(kernel: MiniKernel, tasks: readonly Thing[]): void {
  const numberAt = (task: Thing, member: string) => Number(kernel.readPointer(task.at(member)) & 0xffff_ffffn);
  kernel.emptyList(kernel.initTask.at("children"));
  const leaves = new Map<number, Thing>();
  const top = kernel.make("xa_node").set("shift", SLOT_BITS);
  const put = (node: Thing, slot: number, entry: bigint) =>
    kernel.writeInteger(node.at("slots") + BigInt(slot * 8), entry, 8);
  for (const task of tasks) {
    const stack = kernel.allocate(STACK_SIZE);
    kernel.writeInteger(stack, STACK_END, 8);
    task.setAll({ stack, "thread.sp": stack + BigInt(STACK_SIZE - 0x200) });
    const parent = kernel.readPointer(task.at("real_parent"));
    if (kernel.readPointer(task.at("group_leader")) === task.va)
      kernel.listAdd(parent + (kernel.initTask.at("children") - kernel.initTask.va), task.at("sibling"));
    const pid = kernel.readPointer(task.at("thread_pid"));
    const first = pid + BigInt(kernel.types.of.pid!.members.get("tasks")!.offset);
    kernel.writeInteger(first, task.at("pid_links"), 8);
    kernel.writeInteger(task.at("pid_links") + 8n, first, 8);
    const number = numberAt(task, "pid");
    const leaf = leaves.get(number >> SLOT_BITS) ?? kernel.make("xa_node");
    leaves.set(number >> SLOT_BITS, leaf);
    put(leaf, number % 2 ** SLOT_BITS, pid);
  }
  for (const [slot, leaf] of leaves) put(top, slot, leaf.va | 2n);
  kernel.pidNamespace.set("idr.idr_rt.xa_head", top.va | 2n);
  const cache = kernel.make("kmem_cache").setAll({ size: kernel.types.of.task_struct!.size, offset: 64 });
  kernel.writeInteger(kernel.image("task_struct_cachep", 8), cache.va, 8);
}
