import type { LabGuest } from "../guest.ts";
import type { Evidence, Trick } from "./trick.ts";

/** A trick of a program of lab/guest/tricks, which plays what has the same name. */
export function programTrick(name: string, description: string): Trick {
  return { name, description, start: (guest) => play(guest, name, name), stop: (guest) => end(guest, name) };
}

/**
 * Has the guest's program play something, for a trick.
 * @returns what it tells of that.
 */
export async function play(guest: LabGuest, what: string, trick: string): Promise<Evidence> {
  const told = await guest.exec(`python3 -I -S /lab/tricks/play.py ${what} ${trick}`);
  return evidenceOf(told.trimEnd().split("\n"));
}

/** Ends those of the processes that were started for a trick that have not ended by themselves. */
export async function end(guest: LabGuest, trick: string): Promise<void> {
  await guest.exec(`kill -9 $(cat /run/tricks/${trick}) 2>/dev/null; rm /run/tricks/${trick}`);
}

/** Of KEY=VALUE words. A null pointer is none. */
export function evidenceOf(words: readonly string[]): Evidence {
  const evidence: Record<string, string | number | bigint> = {};
  for (const word of words) {
    const [, key, value] = /^(\w+)=(.*)$/.exec(word)!;
    if (/^0x/.test(value!)) {
      if (BigInt(value!) !== 0n) evidence[key!] = BigInt(value!);
    } else {
      evidence[key!] = /^\d+$/.test(value!) ? Number(value) : value!;
    }
  }
  return evidence;
}
