import { GuestError } from "../errors.ts";
import { ControllerNames, countProcesses, walkCgroups } from "../linux/cgroup-tree.ts";
import { CELL } from "./columns.ts";
import { isWanted } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a control group of the unified hierarchy: the tree of /sys/fs/cgroup. */
export const cgroups = defineTable({
  name: "cgroups",
  description:
    "Control groups of the unified hierarchy (cgroup v2), with the controllers that they have and the processes in them; " +
    "hierarchies of version 1 are not shown",
  columns: {
    path: text("Path from the root of the hierarchy, as in processes.cgroup_path", { key: true }),
    id: integer("Identifier: the inode number of its directory"),
    controllers: text("Controllers that it may use, separated by spaces: cgroup.controllers"),
    subtree_control: text("Controllers that its children may use: cgroup.subtree_control"),
    processes: integer("Processes directly in it, those that have ended left out: the lines of cgroup.procs"),
    threaded: integer("1 in a threaded subtree: its members are threads"),
    frozen: integer("1 when all of its tasks are frozen"),
    dying: integer("1 when it has been removed and something still refers to it: it is in no directory then"),
    cgroup: text("Address of the struct cgroup"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "cgrp_dfl_root, cgroup_subsys",
    "cgroup, cgroup_root, cgroup_subsys_state",
    "kernfs_node (id is a u64 from 5.5: 67c0496e87d1)",
    "task_struct, css_set, signal_struct",
  ],
  examples: [
    "SELECT path, processes FROM cgroups WHERE processes > 0",
    "SELECT p.pid, p.name, c.controllers FROM processes p JOIN cgroups c ON c.vm = p.vm AND c.path = p.cgroup_path",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const wanted = context.textKeys("path");
    const names = new ControllerNames(kernel);
    const counts = out.processes && countProcesses(kernel, budget);
    if (counts !== undefined) {
      context.retried(counts.retried);
      if (!counts.complete) context.incomplete("the task list could not be followed to its end");
    }
    const enter = (path: Uint8Array) => {
      const below = `${Buffer.from(path).toString()}/`;
      return wanted === undefined || [...wanted].some((text) => text.startsWith(below) && text !== below);
    };
    const walk = walkCgroups(kernel, enter, budget, (group) => {
      if (!isWanted(wanted, group.path)) return true;
      out.path?.pushBytes(group.path);
      out.id?.pushOr(group.id, CELL.unreadable);
      out.controllers?.pushOr(names.of(group.controllers), CELL.unreadable);
      out.subtree_control?.pushOr(names.of(group.subtreeControl), CELL.unreadable);
      out.processes?.pushOr(counts?.of(group.at), CELL.unreadable);
      out.threaded?.push(group.threaded ? 1 : 0);
      out.frozen?.push(group.frozen ? 1 : 0);
      out.dying?.push(group.dying ? 1 : 0);
      out.cgroup?.pushAddress(group.at.hi, group.at.lo);
      return context.row();
    });
    if (walk === undefined) {
      throw new GuestError("unsupported-kernel", `kernel ${kernel.release} has no unified cgroup hierarchy`);
    }
    context.retried(walk.retried);
    if (!walk.complete) context.incomplete("some cgroups could not be followed");
  },
});
