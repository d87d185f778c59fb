import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { attach } from "../guest.ts";
import { type MiniGuest, miniGuest } from "../testing/mini-guest.ts";
import type { Thing } from "../testing/mini-kernel.ts";
import { hiddenProcess } from "./hidden-process.ts";
import { runChecks } from "./run.ts";

/** What is found once the shell, process 300, was changed. */
function found(change: (task: Thing, mini: MiniGuest) => void): string[] {
  const mini = miniGuest();
  change(mini.shell.task, mini);
  return [mini.kernel.ram.mapped(), mini.kernel.ram.paged()].flatMap((memory) => {
    const { findings, notes } = runChecks([hiddenProcess], attach(memory).kernel, new Budget());
    assert.deepEqual(notes, []);
    return findings.map(({ what, pid }) => {
      assert.equal(pid, 300);
      return what;
    });
  });
}

/** list_del(), as an intruder does it: what is taken out points to itself. */
function unlink({ kernel }: MiniGuest, node: bigint, ways: 1 | 2 = 2): void {
  const [next, before] = [kernel.readPointer(node), kernel.readPointer(node + 8n)];
  kernel.writeInteger(before, next, 8);
  if (ways === 1) return;
  kernel.writeInteger(next + 8n, before, 8);
  kernel.emptyList(node);
}

const twice = (what: string) => [what, what];

test("nothing is found where every task is in every list", () => {
  assert.deepEqual(
    found(() => {}),
    [],
  );
});

test("a task that was taken out of a list is told with the list", () => {
  const name = "process 300 (a-shell) is missing in";
  assert.deepEqual(
    found((task, mini) => unlink(mini, task.at("tasks"))),
    twice(`${name} the task list`),
  );
  assert.deepEqual(
    found((task, mini) => unlink(mini, task.at("tasks"), 1)),
    twice(`${name} the task list`),
  );
  assert.deepEqual(
    found((task, mini) => unlink(mini, task.at("sibling"))),
    twice(`${name} its parent's children`),
  );
  assert.deepEqual(
    found((task, mini) => {
      unlink(mini, task.at("tasks"));
      unlink(mini, task.at("thread_node"));
    }),
    twice(`${name} the task list, its thread group`),
  );
});

test("a task whose number leads nowhere, or to another", () => {
  const expected = twice("process 300 (a-shell) is missing in the pid numbers");
  const slot = ({ kernel }: MiniGuest) => {
    const top = kernel.readPointer(kernel.pidNamespace.at("idr.idr_rt.xa_head")) & ~3n;
    const slots = BigInt(kernel.types.of.xa_node!.members.get("slots")!.offset);
    return (kernel.readPointer(top + slots + 4n * 8n) & ~3n) + slots + 44n * 8n;
  };
  assert.deepEqual(
    found((_, mini) => mini.kernel.writeInteger(slot(mini), 0, 8)),
    expected,
  );
  assert.deepEqual(
    found((_, mini) => {
      const other = mini.kernel.readPointer(slot(mini) + 8n);
      mini.kernel.writeInteger(slot(mini), other, 8);
    }),
    expected,
  );
});

test("one that is being made, or ends, may be missing", () => {
  const states: Record<string, number>[] = [
    { __state: 0x800 },
    { __state: 0x80 },
    { exit_state: 0x20 },
    { flags: 0x4 },
    { stack: 0 },
  ];
  for (const state of states) {
    assert.deepEqual(
      found((task, mini) => {
        unlink(mini, task.at("tasks"));
        task.setAll(state);
      }),
      [],
      JSON.stringify(state),
    );
  }
});

test("a list that can't be followed to its end is named, and nothing is missing in it", () => {
  const notes = (change: (mini: MiniGuest) => void) => {
    const mini = miniGuest();
    const { kernel } = attach(mini.kernel.ram.mapped());
    change(mini);
    kernel.dropCaches();
    const answer = runChecks([hiddenProcess], kernel, new Budget());
    assert.deepEqual(answer.findings, []);
    return answer.notes.map((note) => note.replace(/^hidden-process: (.*) could not be followed to its end$/, "$1"));
  };
  const nowhere = 0xffff_8fff_0000_0000n;
  assert.deepEqual(
    notes(({ kernel, shell }) => kernel.writeInteger(shell.task.at("tasks"), nowhere, 8)),
    ["the task list"],
  );
  assert.deepEqual(
    notes(({ kernel, shell }) => kernel.writeInteger(shell.task.at("sibling"), nowhere, 8)),
    ["the list of each process's children"],
  );
  assert.deepEqual(
    notes(({ kernel, shell }) => kernel.writeInteger(shell.task.at("thread_node"), nowhere, 8)),
    ["the list of each process's threads"],
  );
  assert.deepEqual(
    notes(({ kernel }) => kernel.pidNamespace.set("idr.idr_rt.xa_head", nowhere | 2n)),
    ["the tree of pid numbers"],
  );
});
