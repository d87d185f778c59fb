import type { Budget } from "../budget.ts";
import { gvaOf, type Halves } from "../bytes/address.ts";
import { GuestError } from "../errors.ts";
import { consistently } from "../linux/consistent.ts";
import type { Kernel } from "../linux/kernel.ts";
import { Memo } from "../linux/memo.ts";
import { userSpace } from "../linux/mm.ts";
import { Paths } from "../linux/path.ts";
import { processMember } from "../linux/process-member.ts";
import { isNull, plus, readCString, sameAddress } from "../linux/read.ts";
import { TASK_COMM_LEN, taskStruct } from "../linux/task-struct.ts";
import { livePid, walkProcesses } from "../linux/tasks.ts";
import { boundsOf, describeVma, permissionsOf, type Vma, walkVmas } from "../linux/vma.ts";
import { mappedSpans } from "../memory/mapped-spans.ts";
import type { Place, Region } from "./region.ts";
import type { Windows } from "./windows.ts";

type ProcessPlace = Extract<Place, { kind: "process" }>;

/**
 * What is in memory of the mappings of processes. A process that ends, or starts another program, meanwhile is left off
 * there: a window counts only if the process has the same memory after it was copied as before.
 *
 * @param note told what could not be read
 */
export function* processRegions(
  kernel: Kernel,
  pids: ReadonlySet<number> | undefined,
  windows: Windows,
  budget: Budget,
  note: (text: string) => void,
): Generator<Region> {
  const list = walkProcesses(kernel, budget);
  if (!list.complete) note("the task list could not be followed to its end");
  const missing = new Set(pids);
  const tasks: { task: Halves; pid: number }[] = [];
  for (let i = 0; i < list.count; i++) {
    const task = { hi: list.hi[i]!, lo: list.lo[i]! };
    const pid = livePid(kernel, task);
    if (pid === undefined || pids?.has(pid) === false) continue;
    missing.delete(pid);
    tasks.push({ task, pid });
  }
  for (const pid of missing) throw new GuestError("no-such-process", `the guest has no process ${pid}`);
  for (const { task, pid } of tasks) {
    kernel.dropCaches();
    const memory = memoryOf(kernel, task, pid, budget);
    if (memory === "none") continue;
    if (memory === "torn") {
      note(`process ${pid} kept changing while it was read`);
      continue;
    }
    if (!memory.complete) note(`the memory map of process ${pid} could not be read whole`);
    yield* regionsOf(kernel, task, memory, windows, budget);
  }
}

interface ProcessMemory {
  readonly pid: number;
  readonly mm: Halves;
  readonly mappings: readonly ProcessPlace[];
  readonly complete: boolean;
}

/** "none" for a kernel thread, and for what has ended. */
function memoryOf(kernel: Kernel, task: Halves, pid: number, budget: Budget): ProcessMemory | "none" | "torn" {
  const { mm: mmMember, comm } = kernel.layout(taskStruct);
  const found = consistently(kernel, budget, () => {
    if (livePid(kernel, task) !== pid) return "none" as const;
    const mm = processMember(kernel, task, mmMember, budget);
    if (mm === undefined || isNull(mm)) return "none" as const;
    const name = readCString(kernel.space, plus(task, comm), TASK_COMM_LEN) ?? new Uint8Array(0);
    const { areas, complete } = walkVmas(kernel, mm, budget);
    const paths = new Paths(kernel, budget);
    const specials = new Memo<Uint8Array | undefined>(kernel);
    const bounds = boundsOf(kernel, mm);
    const nameOf = (area: Vma) => describeVma(kernel, bounds, area, specials).name;
    const mappings = areas.map((area): ProcessPlace => {
      const mapping = area.file === undefined ? nameOf(area) : paths.ofFile(area.file)?.bytes;
      const [start, end] = [gvaOf(area.start.hi, area.start.lo), gvaOf(area.end.hi, area.end.lo)];
      return { kind: "process", pid, name, start, end, permissions: permissionsOf(area), mapping };
    });
    return { pid, mm, mappings, complete };
  });
  return found?.value ?? "torn";
}

function* regionsOf(
  kernel: Kernel,
  task: Halves,
  { pid, mm, mappings }: ProcessMemory,
  windows: Windows,
  budget: Budget,
): Generator<Region> {
  const { mm: mmMember } = kernel.layout(taskStruct);
  const isSame = (): boolean => {
    kernel.memory.refresh();
    const now = processMember(kernel, task, mmMember, budget);
    return now !== undefined && sameAddress(now, mm) && livePid(kernel, task) === pid;
  };
  for (const mapping of mappings) {
    const space = userSpace(kernel, mm);
    if (space === undefined) return;
    // A guest may claim a mapping anywhere: processes have the lower half.
    if (mapping.end > 1n << BigInt(space.mmu.virtualBits - 1)) continue;
    for (const window of windows.of(mappedSpans(space, mapping.start, mapping.end, budget))) {
      kernel.dropCaches();
      if (!isSame()) return;
      yield { ...window, place: () => mapping };
    }
  }
}
