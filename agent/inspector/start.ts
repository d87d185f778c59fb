/**
 * How every inspector begins, whatever it then does: takes the description of its memory from standard input, opens that
 * memory, and gives up all other rights. Nothing of the guest has been read when this returns.
 *
 * Descriptors: 0 the description, 3 the agent, 4 and on the memory.
 */
import { readFileSync } from "node:fs";
import { Socket } from "node:net";
import { type GuestMemoryLayout, openMemory, type PhysicalMemory } from "../../vmi/index.ts";
import { dropIdentity, lockDown, restartFiltered } from "./lockdown.ts";

// Node loads these when an error first passes through, which needs a system call that is refused by then: load them now.
// Not by import, which the bundler drops where nothing is used of it.
process.getBuiltinModule("node:os");
process.getBuiltinModule("node:tty");

export interface Started {
  readonly memory: PhysicalMemory;
  readonly layout: GuestMemoryLayout;
  /** The stream to the agent. */
  readonly agent: Socket;
}

export function start(): Started {
  const { CLOUDVMI_SECCOMP: seccomp, CLOUDVMI_UID: uid, CLOUDVMI_DESCRIPTORS: descriptors } = process.env;
  if (seccomp === "late") restartFiltered(Number(descriptors), { ...process.env, CLOUDVMI_SECCOMP: "on" });
  const layout: GuestMemoryLayout = JSON.parse(readFileSync(0, "utf8"));
  const memory = openMemory(layout);
  const agent = new Socket({ fd: 3, readable: true, writable: true });
  if (uid) dropIdentity(Number(uid));
  if (seccomp === "on") lockDown(layout);
  return { memory, layout, agent };
}
