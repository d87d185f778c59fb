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

/** Ends what was started for a trick, and has not ended by itself, and waits until it is gone. */
export async function end(guest: LabGuest, trick: string): Promise<void> {
  const gone = "for pid in $pids; do while kill -0 $pid 2>/dev/null; do usleep 10000; done; done";
  await guest.exec(`pids=$(cat /run/tricks/${trick}); kill -9 $pids 2>/dev/null; ${gone}; rm /run/tricks/${trick}`);
}

/** Of KEY=VALUE words. A null pointer is none. */
export function evidenceOf(words: readonly string[]): Evidence {
  const evidence: Record<string, string | number | bigint> = {};
  for (const word of words) {
    const [, key, value] = /^(\w+)=(.*)$/.exec(word)!;
    if (value!.startsWith("0x")) {
      if (BigInt(value!) !== 0n) evidence[key!] = BigInt(value!);
    } else {
      evidence[key!] = /^\d+$/.test(value!) ? Number(value) : value!;
    }
  }
  return evidence;
}
