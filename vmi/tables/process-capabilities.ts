import type { Halves } from "../bytes/address.ts";
import { AddressMap } from "../bytes/address-map.ts";
import { capabilityNames, credPrivileges } from "../linux/cred.ts";
import { follow } from "../linux/follow.ts";
import { readPointer } from "../linux/read.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { CELL, type TextColumn } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

const SETS = ["effective", "permitted", "inheritable", "bounding", "ambient"] as const;

/** One row a process: its sets as /proc/PID/status writes them, and what it can do by names. */
export const processCapabilities = defineTable({
  name: "process_capabilities",
  description: "Capabilities of processes (capabilities(7))",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    effective: text("Effective set, 16 hexadecimal digits"),
    permitted: text("Permitted set"),
    inheritable: text("Inheritable set"),
    bounding: text("Bounding set"),
    ambient: text("Ambient set"),
    effective_names: text("Names of the effective set, separated by commas, without cap_"),
    permitted_names: text("Names of the permitted set"),
  },
  cost: "walk",
  reads: ["init_task", "task_struct", "cred (sets of u64 from 6.3: f122a08b197d; before, two u32)"],
  examples: [
    "SELECT p.pid, p.name, c.effective_names FROM process_capabilities c JOIN processes p USING (vm, pid) WHERE p.uid <> 0 AND c.effective_names <> ''",
    "SELECT pid FROM process_capabilities WHERE effective_names LIKE '%sys_module%'",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { real_cred } = kernel.layout(taskStruct);
    const layout = kernel.layout(credPrivileges);
    const members = [
      layout.cap_effective,
      layout.cap_permitted,
      layout.cap_inheritable,
      layout.cap_bset,
      layout.cap_ambient,
    ];
    const columns = SETS.map((name) => out[name]);
    // Most processes have one of a few sets.
    const names = new AddressMap<Uint8Array>();
    const namesOf = (set: Halves): Uint8Array => {
      let known = names.get(set);
      if (known === undefined) {
        known = Buffer.from(capabilityNames(set));
        names.set(set, known);
      }
      return known;
    };
    const writeNames = (column: TextColumn | undefined, set: Halves | undefined) => {
      if (set === undefined) column?.absent(CELL.unreadable);
      else column?.pushBytes(namesOf(set));
    };
    eachProcess(context, (task, pid) => {
      const found = follow(kernel, task, real_cred, budget, (at) =>
        members.map((member) => readPointer(kernel.space, at, member)),
      );
      const sets = typeof found === "string" ? [] : found.value;
      out.pid?.push(pid);
      columns.forEach((column, i) => {
        const set = sets[i];
        if (set === undefined) column?.absent(CELL.unreadable);
        else column?.pushHex(set.hi, set.lo);
      });
      if (out.effective_names) writeNames(out.effective_names, sets[0]);
      if (out.permitted_names) writeNames(out.permitted_names, sets[1]);
      return context.row();
    });
  },
});
