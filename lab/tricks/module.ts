import type { LabGuest } from "../guest.ts";
import { end, evidenceOf, play } from "./programs.ts";
import type { Evidence, Trick } from "./trick.ts";

/** The lab's module, by the name that the kernel has for it. */
const moduleName = "lab_tricks";
const control = "/proc/lab-tricks";

interface Options {
  /** What is started for it to be about: the module gets its pid, or its port. */
  about?: "victim" | "listener";
  /** What the number is that the module tells, where it chose one. */
  number?: "pid" | "vector";
}

/** A trick of the lab's module, which is loaded for it: its name is what the module's file takes. */
export function moduleTrick(name: string, description: string, { about, number }: Options = {}): Trick {
  return {
    name,
    description,
    async start(guest) {
      await load(guest);
      const victim: Evidence = about ? await play(guest, about, name) : {};
      try {
        await guest.exec(`echo "${name} ${victim.port ?? victim.pid ?? 0}" > ${control}`);
        const told = await guest.exec(`sed -n "s/^${name} number=\\(.*\\) hits=.*/\\1/p" ${control}`);
        const [chosen, ...words] = told.trim().split(" ");
        return { ...victim, ...(number && { [number]: Number(chosen) }), module: moduleName, ...evidenceOf(words) };
      } catch (error) {
        if (about) await end(guest, name);
        throw error;
      }
    },
    async stop(guest) {
      await guest.exec(`echo "-${name}" > ${control}`);
      if (about) await end(guest, name);
    },
  };
}

/** The module itself, with none of its tricks. */
export const loadedModule: Trick = {
  name: "load-module",
  description: "a module that nobody signed and that is not of the kernel's own source is loaded",
  async start(guest) {
    await load(guest);
    return { module: moduleName };
  },
  async stop(guest) {
    await guest.exec(`rmmod ${moduleName}`);
  },
};

async function load(guest: LabGuest): Promise<void> {
  await guest.exec(`test -e ${control} || insmod /lab/tricks/${moduleName}.ko`);
}
