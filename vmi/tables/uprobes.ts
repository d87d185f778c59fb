import { pathOfInode } from "../linux/cached-files.ts";
import { factsOfInode, formatDevice } from "../linux/file.ts";
import { describeAddress, symbolText } from "../linux/kernel-address.ts";
import { anyMountOf } from "../linux/mounts.ts";
import { isNull, readInteger, readPointer } from "../linux/read.ts";
import { uprobe, uprobeConsumers, walkUprobes } from "../linux/uprobe.ts";
import { CELL } from "./columns.ts";
import { isWanted, isWantedNumber } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a place of a file: what is in uprobe_events of tracefs and enabled, or probed through perf or BPF. */
export const uprobes = defineTable({
  name: "uprobes",
  description: "Probes in the code of programs: places of files, and who is called when a process comes by",
  columns: {
    path: text("A path of the file; absent when none is in memory, or its file system is mounted nowhere", {
      key: true,
    }),
    inode: integer("Inode of the file", { key: true }),
    device: text("Device of its file system, major:minor, decimal"),
    offset: integer("Where in the file the probe is, bytes"),
    counter_offset: integer("Where in the file a counter is that says how many probe it; absent without one"),
    consumers: integer("How many are called there"),
    handlers: text("Symbols of who is called, each once, separated by spaces"),
    uprobe: text("Address of the struct uprobe"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "uprobes_tree",
    "uprobe",
    "uprobe_consumer (in a list from 6.12: cc01bd044e6a)",
    "inode",
    "super_block",
    "dentry",
    "mount",
  ],
  examples: ['SELECT path, "offset", handlers FROM uprobes'],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { space } = kernel;
    const layout = kernel.layout(uprobe);
    const inodes = context.keys("inode");
    const paths = context.textKeys("path");
    const walk = walkUprobes(kernel, budget);
    context.retried(walk.retried);
    if (!walk.complete) context.incomplete("the tree of uprobes could not be followed to its end");
    for (let i = 0; i < walk.count; i++) {
      const at = { hi: walk.hi[i]!, lo: walk.lo[i]! };
      const inode = readPointer(space, at, layout.inode);
      const facts = inode && factsOfInode(kernel, inode);
      if (!isWantedNumber(inodes, facts?.number)) continue;
      const block = out.path && facts?.superBlock;
      const mount = block && anyMountOf(kernel, block, budget);
      const path = facts && block && pathOfInode(kernel, { at: facts.at, superBlock: block, pages: 0, mount }, budget);
      if (!isWanted(paths, path?.bytes)) continue;
      out.path?.pushOr(path?.bytes, inode === undefined ? CELL.unreadable : CELL.notApplicable);
      out.inode?.pushOr(facts?.number, CELL.unreadable);
      if (facts?.device === undefined) out.device?.absent(CELL.unreadable);
      else out.device?.push(formatDevice(facts.device));
      out.offset?.pushOr(readInteger(space, at, layout.offset), CELL.unreadable);
      const counter = layout.ref_ctr_offset < 0 ? 0 : readInteger(space, at, layout.ref_ctr_offset);
      if (counter === 0) out.counter_offset?.absent(CELL.notApplicable);
      else out.counter_offset?.pushOr(counter, CELL.unreadable);
      const consumers = (out.consumers ?? out.handlers) && uprobeConsumers(kernel, at, budget);
      out.consumers?.pushOr(consumers?.length, CELL.torn);
      if (consumers === undefined) out.handlers?.absent(CELL.torn);
      else {
        const called = consumers
          .flatMap(({ handler, returnHandler }) => [handler, returnHandler])
          .filter((handler) => !isNull(handler))
          .map((handler) => symbolText(describeAddress(kernel, handler, budget)) ?? "?");
        out.handlers?.push([...new Set(called)].join(" "));
      }
      out.uprobe?.pushAddress(at.hi, at.lo);
      if (!context.row()) return;
    }
  },
});
