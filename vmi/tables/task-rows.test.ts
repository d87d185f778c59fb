import assert from "node:assert/strict";
import { test } from "node:test";
import { attach } from "../guest.ts";
import { MappedMemory } from "../memory/mapped-memory.ts";
import { PagedMemory } from "../memory/paged-memory.ts";
import { MiniKernel } from "../testing/mini-kernel.ts";
import { addProcess, type Process } from "../testing/mini-objects.ts";
import { makeDentry, makeFile, makeMount } from "../testing/mini-vfs.ts";
import { Ram } from "../testing/ram.ts";
import { rowsOf } from "../testing/rows.ts";

/** A guest with many processes, each of whose structures and directories have pages of their own. */
function crowd(count: number, depth: number): { kernel: MiniKernel; processes: Process[] } {
  const ram = new Ram([[0, 96 << 20]]);
  const kernel = new MiniKernel({}, ram);
  const root = makeMount(kernel);
  const processes = Array.from({ length: count }, (_, i) => {
    let directory = root.root;
    for (let level = 0; level < depth; level++) {
      kernel.allocate(4096);
      directory = makeDentry(kernel, "d", directory);
    }
    const exe = makeFile(kernel, root, makeDentry(kernel, `program-${i}`, directory));
    const memory = { exe, args: `program-${i}\0`, env: "A=1\0" };
    return addProcess(kernel, { pid: i + 1, comm: `p${i}`, ids: [i, 0, 0, 0, 0, 0], memory });
  });
  return { kernel: kernel.finish(), processes };
}

test("more pages than are kept at once: rows are whole in memory that is copied, as in memory that is mapped", () => {
  const { kernel } = crowd(300, 16);
  const [mapped, paged] = [kernel.ram.mapped(), kernel.ram.paged()].map((memory) => {
    const answer = attach(memory).table("processes");
    assert.equal(answer.retried, 0);
    return rowsOf(answer);
  });
  assert.equal(mapped!.length, 300);
  mapped!.forEach(({ pid, name, cmdline, path, uid }, i) => {
    assert.deepEqual(
      [pid, name, cmdline, path, uid],
      [i + 1, `p${i}`, `program-${i}`, `${"/d".repeat(16)}/program-${i}`, i],
    );
  });
  assert.deepEqual(paged, mapped);
});

/** Memory that tells of every look at page tables, so that the guest can run meanwhile. */
class Watched extends MappedMemory {
  onLocate = (_gpa: number): void => {};
  override locate(gpa: number): number {
    this.onLocate(gpa);
    return super.locate(gpa);
  }
}

function watched({ ram }: MiniKernel): Watched {
  return new Watched(ram.layout, ram.bytes, ram.end, () => {});
}

/** Waits long enough for the kernel to have freed what was on its lists. */
function pastGracePeriod(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3);
}

test("a task_struct that becomes another task's while its row is written: the row is written again", () => {
  const { kernel, processes } = crowd(5, 2);
  const memory = watched(kernel);
  const guest = attach(memory);
  const { task, tables } = processes[2]!;
  let changes = 0;
  memory.onLocate = (gpa) => {
    if (gpa >> 12 !== tables!.pgd >> 12 || changes > 0) return;
    changes++;
    task.setAll({ pid: 77, tgid: 77, comm: Buffer.from("reused\0") });
    pastGracePeriod();
  };
  const answer = guest.table("processes", { columns: ["pid", "name", "cmdline"] });
  assert.equal(changes, 1);
  assert.equal(answer.retried, 1);
  assert.equal(answer.incomplete, false);
  const rows = rowsOf(answer);
  assert.deepEqual(
    rows.map(({ pid, name }) => `${pid} ${name}`),
    ["1 p0", "2 p1", "4 p3", "5 p4", "77 reused"],
  );
});

test("a task_struct that never stays the same has no row, and is told of", () => {
  const { kernel, processes } = crowd(3, 2);
  const memory = watched(kernel);
  const guest = attach(memory);
  const { task, tables } = processes[1]!;
  let pid = 100;
  memory.onLocate = (gpa) => {
    if (gpa >> 12 !== tables!.pgd >> 12) return;
    task.setAll({ pid: ++pid, tgid: pid });
    pastGracePeriod();
  };
  const answer = guest.table("processes", { columns: ["pid", "cmdline"] });
  assert.deepEqual(
    rowsOf(answer).map((row) => row.pid),
    [1, 3],
  );
  assert.ok(answer.retried >= 2, String(answer.retried));
  assert.equal(answer.incomplete, true);
  assert.match(answer.notes.join(), /kept changing/);
});

test("a task that can't be read has no row, and is told of", () => {
  const { kernel } = crowd(4, 1);
  const guest = attach(kernel.ram.paged());
  assert.equal(guest.table("processes").rows, 4);
  // Its list_head is in one page, and its comm in the next, which is gone.
  const scattered = kernel.makeScattered("task_struct");
  const pages = [scattered.va, scattered.va + 4096n].map((va) => kernel.gpa(va) & ~0xfff);
  assert.notEqual(pages[0]! + 4096, pages[1]);
  const { tables } = kernel;
  const far = 0xffff_c900_0000_0000n;
  tables.map(far, pages[0]!);
  const member = BigInt(scattered.type.members.get("tasks")!.offset);
  const at = far + 4096n - member - 16n;
  kernel.listAdd(kernel.initTask.at("tasks"), at + member);
  const answer = guest.table("processes", { columns: ["pid"] });
  assert.equal(answer.rows, 4);
  assert.deepEqual([answer.incomplete, answer.notes.length], [true, 1]);
});

test("copied: a task whose parent or credentials become others while its row is written is written again", () => {
  for (const member of ["real_parent", "real_cred", "pid"] as const) {
    const { kernel, processes } = crowd(3, 2);
    const { task, tables } = processes[1]!;
    const other = processes[0]!.task;
    const values = {
      real_parent: { real_parent: other.va },
      real_cred: { real_cred: kernel.ram.u64(kernel.gpa(other.at("real_cred"))) },
      pid: { pid: 77, tgid: 77 },
    };
    let changes = 0;
    class Reused extends PagedMemory {
      override locate(gpa: number): number {
        if (changes === 0 && armed && gpa >> 12 === tables!.pgd >> 12) {
          changes++;
          task.setAll(values[member]);
          pastGracePeriod();
        }
        return super.locate(gpa);
      }
    }
    let armed = false;
    const guest = attach(new Reused(kernel.ram.layout, kernel.ram.reader()));
    armed = true;
    const answer = guest.table("processes", { columns: ["pid", "uid", "cmdline"] });
    assert.deepEqual([changes, answer.retried, answer.incomplete], [1, 1, false], member);
    assert.equal(rowsOf(answer)[2]!.uid, member === "real_cred" ? 0 : 1);
  }
});
