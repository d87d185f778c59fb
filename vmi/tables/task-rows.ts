import { addHi, addLo, numberOf } from "../bytes/address.ts";
import type { Kernel } from "../linux/kernel.ts";
import { DEFAULT_PRIO, PF_KTHREAD, TASK_COMM_LEN, taskStruct } from "../linux/task-struct.ts";
import { stateLetter } from "../linux/tasks.ts";
import { clockOf } from "../linux/timekeeping.ts";
import { SCRATCH_SIZE } from "../memory/physical-memory.ts";
import { CELL, type IntegerColumn, type TextColumn } from "./columns.ts";
import type { TableContext } from "./table.ts";

/**
 * Rows of tasks are written a block at a time, column by column: each column is one small loop over the block, and
 * nothing is spent on columns that were not asked for.
 */
export interface TaskBlock {
  /** The arrays are longer, and used again for the next block. */
  count: number;
  /** Index of each task_struct in the memory's view. */
  readonly base: Float64Array;
  /** Its address. */
  readonly hi: Int32Array;
  readonly lo: Int32Array;
  /** See identityOf: as it was when the block was begun. */
  readonly identity: Int32Array;
}

export type BlockWriter = (block: TaskBlock) => void;

interface TaskList {
  readonly hi: readonly number[];
  readonly lo: readonly number[];
  /** When the list was begun, as performance.now() tells. */
  readonly since: number;
  /** Only thread group leaders are wanted: a task_struct that has become another thread's is passed over. */
  readonly leaders?: boolean;
}

/** A block of task_structs must fit half the scratch area, where memory is copied rather than mapped. */
const BLOCK = 128;
/** Copying takes so much longer that in the time for a large block some of its tasks would be gone. */
const COPIED_BLOCK = 8;
/** Tasks and their credentials are freed after an RCU grace period, which takes several milliseconds. */
const GRACE_MS = 1;
const ATTEMPTS = 3;

/** The one block there is: tables are read one after the other, and making its arrays anew takes longer than filling them. */
const block: TaskBlock = {
  count: 0,
  base: new Float64Array(BLOCK),
  hi: new Int32Array(BLOCK),
  lo: new Int32Array(BLOCK),
  identity: new Int32Array(BLOCK),
};

/**
 * Writes the rows of tasks. One that has gone when its block is done has no row, since what it had may be another's by
 * then; one whose task_struct has come to be another's is read anew.
 *
 * @param wanted thread group ids to keep; undefined for all
 */
export function writeTasks(
  context: TableContext,
  tasks: TaskList,
  wanted: ReadonlySet<number> | undefined,
  writers: readonly BlockWriter[],
): void {
  const { kernel } = context;
  const { extent } = kernel.layout(taskStruct);
  const most = kernel.memory.direct ? BLOCK : COPIED_BLOCK;
  const size = Math.max(1, Math.min(most, Math.trunc(SCRATCH_SIZE / 2 / extent), context.limit));
  let waiting = tasks;
  for (let attempt = 1; waiting.hi.length > 0; attempt++) {
    const again = { hi: [] as number[], lo: [] as number[], since: tasks.since, leaders: tasks.leaders };
    for (let from = 0; from < waiting.hi.length; from += size) {
      fillBlock(context, waiting, from, Math.min(from + size, waiting.hi.length), wanted);
      for (const write of writers) write(block);
      const out = outdated(kernel, performance.now() - tasks.since);
      for (const row of out?.changed ?? []) {
        again.hi.push(block.hi[row]!);
        again.lo.push(block.lo[row]!);
      }
      // What is read next must not be mixed with these copies.
      if (out !== undefined) kernel.dropCaches();
      if (!context.rows(block.count, out && ((row) => out.gone.has(row) || out.changed.has(row)))) return;
    }
    context.retried(again.hi.length);
    if (attempt === ATTEMPTS && again.hi.length > 0) {
      context.incomplete(`tasks kept changing while they were read and have no row: ${again.hi.length}`);
      return;
    }
    waiting = again;
  }
}

function fillBlock(
  context: TableContext,
  tasks: TaskList,
  from: number,
  to: number,
  wanted: ReadonlySet<number> | undefined,
): void {
  const { kernel, budget } = context;
  const { space } = kernel;
  const { view } = kernel.memory;
  const { extent, tgid, pid } = kernel.layout(taskStruct);
  budget.spend(to - from);
  let count = 0;
  for (let i = from; i < to; i++) {
    const hi = tasks.hi[i]!;
    const lo = tasks.lo[i]!;
    const base = space.hold(hi, lo, extent);
    if (base < 0) {
      context.incomplete("a task on the list could not be read");
      continue;
    }
    const group = view.getInt32(base + tgid, true);
    const thread = view.getInt32(base + pid, true);
    if ((tasks.leaders && thread !== group) || (wanted !== undefined && !wanted.has(group))) continue;
    block.base[count] = base;
    block.hi[count] = hi;
    block.lo[count] = lo;
    block.identity[count] = identityOf(group, thread);
    count++;
  }
  block.count = count;
}

/**
 * A number made of thread group and thread id. The kernel gives ids out in turn, so memory that has come to be another
 * task's within one read has other ids; looking at no more than them spares a cache miss a task.
 */
function identityOf(tgid: number, pid: number): number {
  return (Math.imul(tgid, 31) + pid) | 0;
}

/** Rows of the block that do not count: of tasks that are gone, and of those to be read anew. */
interface Outdated {
  readonly gone: ReadonlySet<number>;
  readonly changed: ReadonlySet<number>;
}

/**
 * Looks at the tasks of the block again, in place or at new copies: worth its while when the list of them is `age`
 * milliseconds old, as what was on it can't have been freed before. Undefined when all is well.
 */
function outdated(kernel: Kernel, age: number): Outdated | undefined {
  if (age < GRACE_MS) return undefined;
  if (!kernel.memory.direct) return outdatedCopies(kernel);
  const { view } = kernel.memory;
  const { tgid, pid, thread_pid } = kernel.layout(taskStruct);
  const { base, identity, count } = block;
  let found: { gone: Set<number>; changed: Set<number> } | undefined;
  for (let i = 0; i < count; i++) {
    const at = base[i]!;
    const released = isReleased(view, at, thread_pid);
    const now = identityOf(view.getInt32(at + tgid, true), view.getInt32(at + pid, true));
    if (!released && now === identity[i]) continue;
    found ??= { gone: new Set(), changed: new Set() };
    (released ? found.gone : found.changed).add(i);
  }
  return found;
}

/** Its parent, credentials and the like are no longer held for a task that has no pid. */
function isReleased(view: DataView, base: number, threadPid: number): boolean {
  return (
    threadPid >= 0 && view.getInt32(base + threadPid, true) === 0 && view.getInt32(base + threadPid + 4, true) === 0
  );
}

/**
 * Copies are far apart in time: beside its ids a task must still have its parent and its credentials, since those that
 * it had may be another's by now.
 */
function outdatedCopies(kernel: Kernel): Outdated | undefined {
  const { tgid, pid, thread_pid, real_parent, real_cred } = kernel.layout(taskStruct);
  const { view } = kernel.memory;
  const offsets = [tgid, pid, real_parent, real_cred, ...(thread_pid < 0 ? [] : [thread_pid])];
  const start = Math.min(...offsets);
  const length = Math.max(...offsets) + 8 - start;
  const gone = new Set<number>();
  const changed = new Set<number>();
  for (let i = 0; i < block.count; i++) {
    const bytes = kernel.space.reread(addHi(block.hi[i]!, block.lo[i]!, start), addLo(block.lo[i]!, start), length);
    const now = bytes && new DataView(bytes.buffer, bytes.byteOffset);
    const at = block.base[i]! + start;
    const same = (member: number) => now?.getInt32(member - start, true) === view.getInt32(at + member - start, true);
    if (now === undefined || isReleased(now, -start, thread_pid)) gone.add(i);
    else if (!same(tgid) || !same(pid)) changed.add(i);
    else if ([real_parent, real_cred].some((member) => !same(member) || !same(member + 4))) changed.add(i);
  }
  return gone.size + changed.size === 0 ? undefined : { gone, changed };
}

/** Columns that every table of tasks has. */
export interface CommonTaskColumns {
  readonly name: TextColumn | undefined;
  readonly state: TextColumn | undefined;
  readonly nice: IntegerColumn | undefined;
  readonly start_time: IntegerColumn | undefined;
  readonly kernel_thread: IntegerColumn | undefined;
  readonly task: TextColumn | undefined;
}

export function commonWriters(kernel: Kernel, out: CommonTaskColumns): BlockWriter[] {
  const { comm, state: stateAt, exit_state, static_prio, start_boottime, flags } = kernel.layout(taskStruct);
  const { view } = kernel.memory;
  const { name, state, nice, start_time, kernel_thread, task } = out;
  const writers: BlockWriter[] = [];
  if (name !== undefined) {
    writers.push(({ base, count }) => {
      for (let i = 0; i < count; i++) name.pushUntilZero(view, base[i]! + comm, TASK_COMM_LEN / 4);
    });
  }
  if (state !== undefined) {
    writers.push(({ base, count }) => {
      for (let i = 0; i < count; i++) {
        const at = base[i]!;
        state.pushCode(stateLetter(view.getInt32(at + stateAt, true), view.getInt32(at + exit_state, true)));
      }
    });
  }
  if (nice !== undefined) {
    writers.push(({ base, count }) => {
      for (let i = 0; i < count; i++) nice.push(view.getInt32(base[i]! + static_prio, true) - DEFAULT_PRIO);
    });
  }
  if (start_time !== undefined) {
    const boot = clockOf(kernel)?.bootNanoseconds;
    writers.push(({ base, count }) => {
      for (let i = 0; i < count; i++) {
        const at = base[i]!;
        const started = at + start_boottime;
        const since = numberOf(view.getInt32(started + 4, true), view.getInt32(started, true));
        start_time.pushOr(boot === undefined ? boot : Math.floor((boot + since) / 1e9), CELL.unreadable);
      }
    });
  }
  if (kernel_thread !== undefined) {
    writers.push(({ base, count }) => {
      for (let i = 0; i < count; i++)
        kernel_thread.push((view.getInt32(base[i]! + flags, true) & PF_KTHREAD) === 0 ? 0 : 1);
    });
  }
  if (task !== undefined) {
    writers.push(({ hi, lo, count }) => {
      for (let i = 0; i < count; i++) task.pushAddress(hi[i]!, lo[i]!);
    });
  }
  return writers;
}

/** A column of 32-bit signed members of task_struct. */
export function int32Writer(kernel: Kernel, column: IntegerColumn | undefined, offset: number): BlockWriter[] {
  if (column === undefined) return [];
  const { view } = kernel.memory;
  return [
    ({ base, count }) => {
      for (let i = 0; i < count; i++) column.push(view.getInt32(base[i]! + offset, true));
    },
  ];
}
