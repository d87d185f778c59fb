import type { Halves } from "../bytes/address.ts";
import { plus, readCString, readPointer, readU32 } from "../linux/read.ts";
import { TASK_COMM_LEN, taskStruct } from "../linux/task-struct.ts";
import { CELL } from "./columns.ts";
import { ofEachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

/** PID_MAX_LIMIT has seven digits, so that paths sort as numbers do. */
const DIGITS = 7;

interface Node {
  readonly pid: number;
  readonly parent: number | undefined;
  readonly name: Uint8Array | undefined;
  readonly children: number[];
}

/** One row a process, in the order of a tree: each behind its parent, siblings by their ids. */
export const processTree = defineTable({
  name: "process_tree",
  description: "Processes as a tree of parents and children",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    parent: integer("Process id of the parent; 0 for the roots of the tree"),
    name: text("The name that the kernel keeps (comm)"),
    depth: integer("Steps from the root: 0 for init and kthreadd"),
    children: integer("Direct children"),
    path: text("Process ids from the root on, of seven digits each and separated by /: ORDER BY path gives the tree"),
  },
  cost: "walk",
  reads: ["init_task", "task_struct"],
  examples: [
    "SELECT substr('                ', 1, 2 * depth) || name AS tree, pid FROM process_tree ORDER BY path",
    "SELECT pid, name FROM process_tree WHERE path LIKE '0000001/%' AND depth = 1",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { tgid, real_parent, comm } = kernel.layout(taskStruct);
    const { space } = kernel;
    const read = (at: Halves, pid: number): Node => {
      const parent = readPointer(space, at, real_parent);
      return {
        pid,
        parent: parent && readU32(space, parent, tgid),
        name: out.name && readCString(space, plus(at, comm), TASK_COMM_LEN),
        children: [],
      };
    };
    const nodes = new Map(ofEachProcess(context, read).map((node) => [node.pid, node]));
    const above = (node: Node): Node | undefined => {
      const parent = node.parent === undefined ? undefined : nodes.get(node.parent);
      return parent === node ? undefined : parent;
    };
    const roots: Node[] = [];
    for (const node of nodes.values()) {
      const parent = above(node);
      if (parent === undefined) roots.push(node);
      else parent.children.push(node.pid);
    }
    const write = (node: Node, depth: number, path: string): boolean => {
      budget.spend();
      out.pid?.push(node.pid);
      out.parent?.pushOr(node.parent, CELL.unreadable);
      out.name?.pushOr(node.name, CELL.unreadable);
      out.depth?.push(depth);
      out.children?.push(node.children.length);
      out.path?.push(path);
      return context.row();
    };
    const wanted = context.keys("pid");
    if (wanted !== undefined) {
      const found = [...wanted].flatMap((pid) => {
        const node = nodes.get(pid);
        return node === undefined ? [] : [{ node, path: pathUpwards(node, above) }];
      });
      for (const { node, path } of found.sort((a, b) => (a.path < b.path ? -1 : 1))) {
        if (path === "") context.incomplete(`process ${node.pid} hangs on no root`);
        else if (!write(node, path.split("/").length - 1, path)) return;
      }
      return;
    }
    const seen = new Set<Node>();
    const byPid = (a: Node, b: Node) => b.pid - a.pid;
    const waiting = roots.toSorted(byPid).map((node) => ({ node, depth: 0, path: "" }));
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const { node, depth, path: before } = next;
      if (seen.has(node)) continue;
      seen.add(node);
      const path = `${before}${before === "" ? "" : "/"}${nameInPath(node)}`;
      if (!write(node, depth, path)) return;
      const below = node.children.map((pid) => nodes.get(pid)!).sort(byPid);
      waiting.push(...below.map((child) => ({ node: child, depth: depth + 1, path })));
    }
    // Parents that lead round in a circle: no kernel has that.
    if (seen.size < nodes.size) context.incomplete(`${nodes.size - seen.size} processes hang on no root`);
  },
});

const nameInPath = ({ pid }: Node) => String(pid).padStart(DIGITS, "0");

/** The path of a node from its root on; empty when its parents lead round in a circle. */
function pathUpwards(node: Node, above: (node: Node) => Node | undefined): string {
  const seen = new Set<Node>();
  const names: string[] = [];
  for (let at: Node | undefined = node; at !== undefined; at = above(at)) {
    if (seen.has(at)) return "";
    seen.add(at);
    names.unshift(nameInPath(at));
  }
  return names.join("/");
}
