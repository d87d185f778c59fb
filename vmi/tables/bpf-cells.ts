import type { Halves } from "../bytes/address.ts";
import { type BpfKind, walkBpf } from "../linux/bpf.ts";
import { walkOpenFiles } from "../linux/fd-table.ts";
import { fileStruct } from "../linux/file.ts";
import { follow } from "../linux/follow.ts";
import { readPointer, sameAddress } from "../linux/read.ts";
import { taskFiles } from "../linux/task-struct.ts";
import { symbol } from "../symbols/specs.ts";
import { CELL, type TextColumn } from "./columns.ts";
import { ofEachProcess } from "./each-process.ts";
import type { TableContext } from "./table.ts";

/** kernel/bpf/syscall.c; links that can be polled from 6.11 (2884dc7d08d9). */
const operations = {
  program: [symbol("?bpf_prog_fops")],
  map: [symbol("?bpf_map_fops")],
  link: [symbol("?bpf_link_fops"), symbol("?bpf_link_fops_poll")],
};

/**
 * Visits the BPF objects of a kind that a constraint on `id` names.
 *
 * @param write writes the cells of one; returns false when the object turns out to be gone
 */
export function eachBpf(context: TableContext, kind: BpfKind, write: (at: Halves, id: number) => boolean): void {
  const wanted = context.keys("id");
  const complete = walkBpf(context.kernel, kind, context.budget, (id, at) => {
    if (wanted !== undefined && !wanted.has(id)) return true;
    if (write(at, id)) return context.row();
    context.discard();
    context.retried(1);
    return true;
  });
  if (!complete) context.incomplete(`the ids of BPF ${kind}s could not all be read`);
}

/** Ids of the processes that hold a descriptor of an object, by its address. */
export class BpfHolders {
  readonly #context: TableContext;
  readonly #kind: BpfKind;
  #found: Map<number, { at: Halves; pids: number[] }[]> | undefined;

  constructor(context: TableContext, kind: BpfKind) {
    this.#context = context;
    this.#kind = kind;
  }

  /** Writes them, ascending, each followed by a comma but the last; absent when there is none, as for what is pinned or attached. */
  push(column: TextColumn, object: Halves): void {
    this.#found ??= this.#walk();
    const pids = this.#found.get(object.lo)?.find(({ at }) => sameAddress(at, object))?.pids;
    if (pids === undefined) column.absent(CELL.notApplicable);
    else column.push(pids.join(","));
  }

  #walk(): Map<number, { at: Halves; pids: number[] }[]> {
    const { kernel, budget } = this.#context;
    const { files } = kernel.layout(taskFiles);
    const { f_op, private_data } = kernel.layout(fileStruct);
    const places = operations[this.#kind].map((spec) => kernel.optionalPlace(spec));
    const found = new Map<number, { at: Halves; pids: number[] }[]>();
    if (f_op < 0 || private_data < 0) return found;
    const holders = ofEachProcess(this.#context, (task, pid) => {
      const held = follow(kernel, task, files, budget, (at) => {
        const objects: Halves[] = [];
        walkOpenFiles(kernel, at, budget, (_fd, file) => {
          const op = readPointer(kernel.space, file, f_op);
          if (op === undefined || !places.some((place) => place !== undefined && sameAddress(place, op))) return true;
          const object = readPointer(kernel.space, file, private_data);
          if (object !== undefined) objects.push(object);
          return true;
        });
        return objects;
      });
      return { pid, held: typeof held === "string" ? [] : held.value };
    });
    for (const { pid, held } of holders) {
      for (const at of held) {
        const same = found.get(at.lo) ?? [];
        const known = same.find((entry) => sameAddress(entry.at, at));
        if (known === undefined) found.set(at.lo, [...same, { at, pids: [pid] }]);
        else if (known.pids.at(-1) !== pid) known.pids.push(pid);
      }
    }
    for (const same of found.values()) for (const { pids } of same) pids.sort((a, b) => a - b);
    return found;
  }
}

/** Text of the guest's; absent where there is none, or it can't be read. */
export function pushText(column: TextColumn | undefined, value: Uint8Array | "none" | undefined): void {
  if (column === undefined) return;
  if (value === "none") column.absent(CELL.notApplicable);
  else column.pushOr(value, CELL.unreadable);
}

/** A word of a closed list; absent when unreadable. */
export function pushWord(column: TextColumn | undefined, value: string | undefined): void {
  if (value === undefined) column?.absent(CELL.unreadable);
  else column?.push(value);
}
