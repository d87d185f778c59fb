/**
 * A cache of kernel profiles by build id, so that a kernel that has been seen is attached to at once. To the agent they
 * are opaque bytes that came from an inspector, which may lie: names are checked, number and size are bounded, and
 * inspectors don't trust what they get from here.
 */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

const validName = /^[0-9a-f]{8,64}$/;

export interface ProfileLimits {
  readonly count: number;
  /** Of one profile. */
  readonly bytes: number;
  /** Of what is handed to an inspector at once. */
  readonly given: number;
}

const defaults: ProfileLimits = { count: 64, bytes: 16 << 20, given: 24 << 20 };

export interface ProfileStore {
  /** Profiles to try, the likeliest first: `hint`'s, then the last used. */
  load(hint: string | undefined): Uint8Array[];
  /** Keeps a profile. What is not a build id, or too large, is not kept; returns whether it was. */
  save(buildId: string, profile: Uint8Array): boolean;
  /** Notes that the profile of this kernel has served. */
  used(buildId: string): void;
}

export function openProfileStore(folder: string, limits = defaults): ProfileStore {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const file = (name: string) => join(folder, name);
  // The folder goes with its owner when too many others have come since: see openProfileStores.
  const newestFirst = () =>
    (existsSync(folder) ? readdirSync(folder) : [])
      .filter((name) => validName.test(name))
      .map((name) => ({ name, ...at(file(name)) }))
      .sort((a, b) => b.time - a.time);
  return {
    load(hint) {
      const all = newestFirst();
      const first = all.findIndex(({ name }) => name === hint);
      if (first > 0) all.unshift(...all.splice(first, 1));
      const profiles: Uint8Array[] = [];
      let left = limits.given;
      for (const { name, size } of all) {
        if (size === 0 || size > limits.bytes || size > left) continue;
        profiles.push(readFileSync(file(name)));
        left -= size;
      }
      return profiles;
    },
    save(buildId, profile) {
      if (!validName.test(buildId) || profile.length === 0 || profile.length > limits.bytes) return false;
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const temporary = file(`.${buildId}.${process.pid}`);
      writeFileSync(temporary, profile, { mode: 0o600 });
      renameSync(temporary, file(buildId));
      for (const { name } of newestFirst().slice(limits.count)) rmSync(file(name), { force: true });
      return true;
    },
    used(buildId) {
      if (!validName.test(buildId)) return;
      const now = new Date();
      try {
        utimesSync(file(buildId), now, now);
      } catch {
        // Not in the cache: the profile came with the request, or has just been pushed out.
      }
    },
  };
}

/** Owners whose profiles are kept, at most: those that used theirs last. */
const maxOwners = 512;

/**
 * A store for each owner: VMs of one project share what is known of kernels, others do not. An inspector that has been
 * taken over can write wrong profiles, and must mislead nobody but its own tenant by them.
 */
export function openProfileStores(folder: string): (owner: string) => ProfileStore {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const file = (name: string) => join(folder, name);
  return (owner) => {
    const name = createHash("sha256").update(owner).digest("hex").slice(0, 32);
    const store = openProfileStore(file(name));
    const now = new Date();
    utimesSync(file(name), now, now);
    const oldestLast = readdirSync(folder)
      .map((entry) => ({ entry, time: at(file(entry)).time }))
      .sort((a, b) => b.time - a.time);
    for (const { entry } of oldestLast.slice(maxOwners)) rmSync(file(entry), { recursive: true, force: true });
    return store;
  };
}

/** Nothing kept: for an agent of one run. */
export function noProfileStore(): ProfileStore {
  return { load: () => [], save: () => false, used: () => {} };
}

function at(path: string): { time: number; size: number } {
  const stat = statSync(path, { throwIfNoEntry: false });
  return { time: stat?.mtimeMs ?? 0, size: stat?.size ?? 0 };
}
