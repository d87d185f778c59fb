// How much an agent may say. Agents are trusted with their own VMs only: one that has been taken over must not make
// control slow for the others, nor fill its memory or database.
import { setTimeout as sleep } from "node:timers/promises";
import { toBinary } from "@bufbuild/protobuf";
import { type Vm, VmSchema } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import { usableUuid } from "./registry.ts";

/** VMs of one agent. */
export const maxVms = 4096;
/** Of what an agent says of one VM: its labels, above all. */
const maxVmBytes = 16 * 1024;
/** Of one message: all VMs that come, and all that go. */
const maxChanges = 2 * maxVms;
/** Of one message: some 1 KiB for each of the most VMs. */
const maxMessageBytes = 4 * 1024 * 1024;
/** VMs that come, change or go, on average. */
const changesPerSecond = 200;

/** Throws for more than any agent has to say at once. */
export function checkMessage(bytes: number, changes = 0): void {
  if (bytes > maxMessageBytes) throw new Error(`the agent sends ${bytes} bytes at once, over ${maxMessageBytes}`);
  if (changes > maxChanges) throw new Error(`the agent announces ${changes} changes at once, over ${maxChanges}`);
}

export interface Admitted {
  readonly vms: Vm[];
  /** What is left out, and why; empty when nothing is. */
  readonly problem: string;
}

/** @param known the VMs that the agent has already */
export function admitVms(vms: readonly Vm[], known: { has(uuid: string): boolean; readonly size: number }): Admitted {
  const added = new Set<string>();
  let problem = "";
  const fitting = vms.filter((vm) => {
    const bytes = toBinary(VmSchema, vm).length;
    if (bytes > maxVmBytes) {
      problem = `VM ${JSON.stringify(vm.name.slice(0, 100))} is left out: its agent describes it in ${bytes} bytes, over ${maxVmBytes}: use fewer labels`;
      return false;
    }
    const uuid = usableUuid(vm);
    if (uuid === undefined || known.has(uuid) || added.has(uuid)) return true;
    if (known.size + added.size >= maxVms) {
      problem = `VMs are left out: an agent may have ${maxVms}`;
      return false;
    }
    added.add(uuid);
    return true;
  });
  return { vms: fitting, problem };
}

export interface Pace {
  /** Waits until so many changes more are no more than an agent may make. */
  take(changes: number, signal: AbortSignal): Promise<void>;
}

/** The most that may come at once always may; beyond that, what comes faster than it may is read later. */
export function createPace(
  clock: { now(): number; sleep(ms: number, signal: AbortSignal): Promise<void> } = timers,
): Pace {
  let owed = 0;
  let atMs = clock.now();
  return {
    async take(changes, signal) {
      const nowMs = clock.now();
      owed = Math.max(0, owed - ((nowMs - atMs) / 1000) * changesPerSecond) + changes;
      atMs = nowMs;
      if (owed > maxChanges) await clock.sleep(((owed - maxChanges) / changesPerSecond) * 1000, signal);
    },
  };
}

const timers = {
  now: () => performance.now(),
  sleep: (ms: number, signal: AbortSignal) => sleep(ms, undefined, { signal }),
};
