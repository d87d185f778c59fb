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

/** A store that never throws: without what can't be read or written, guests are attached to more slowly. That is logged once. */
export function openProfileStore(
  folder: string,
  limits = defaults,
  log: (line: string) => void = () => {},
): ProfileStore {
  const attempt = forgiving(folder, log);
  attempt(() => mkdirSync(folder, { recursive: true, mode: 0o700 }));
  return storeIn(folder, limits, attempt);
}

function storeIn(folder: string, limits: ProfileLimits, attempt: Attempt): ProfileStore {
  const file = (name: string) => join(folder, name);
  // The folder goes with its owner when too many others have come since: see openProfileStores.
  const newestFirst = () =>
    (existsSync(folder) ? readdirSync(folder) : [])
      .filter((name) => validName.test(name))
      .map((name) => ({ name, ...at(file(name)) }))
      .sort((a, b) => b.time - a.time);
  return {
    load(hint) {
      const all = attempt(newestFirst) ?? [];
      const first = all.findIndex(({ name }) => name === hint);
      if (first > 0) all.unshift(...all.splice(first, 1));
      const profiles: Uint8Array[] = [];
      let left = limits.given;
      for (const { name, size } of all) {
        if (size === 0 || size > limits.bytes || size > left) continue;
        const profile = attempt(() => readFileSync(file(name)));
        if (profile === undefined) continue;
        profiles.push(profile);
        left -= size;
      }
      return profiles;
    },
    save(buildId, profile) {
      if (!validName.test(buildId) || profile.length === 0 || profile.length > limits.bytes) return false;
      const kept = attempt(() => {
        mkdirSync(folder, { recursive: true, mode: 0o700 });
        const temporary = file(`.${buildId}.${process.pid}`);
        try {
          writeFileSync(temporary, profile, { mode: 0o600 });
          renameSync(temporary, file(buildId));
        } catch (error) {
          rmSync(temporary, { force: true });
          throw error;
        }
        for (const { name } of newestFirst().slice(limits.count)) rmSync(file(name), { force: true });
        return true;
      });
      return kept === true;
    },
    used(buildId) {
      if (!validName.test(buildId)) return;
      const now = new Date();
      // Not in the cache: the profile came with the request, or has just been pushed out.
      attempt(() => utimesSync(file(buildId), now, now));
    },
  };
}

/** What the work brings; undefined when it failed. */
type Attempt = <T>(work: () => T) => T | undefined;

/** Logs the first failure. What is not there is none: others use the same folder, and push out what is old. */
function forgiving(folder: string, log: (line: string) => void): Attempt {
  let told = false;
  return (work) => {
    try {
      return work();
    } catch (error) {
      if (!told && Reflect.get(Object(error), "code") !== "ENOENT") {
        told = true;
        log(`kernel profiles can't be kept in ${folder}, so that VMs take longer to attach to: ${String(error)}`);
      }
      return undefined;
    }
  };
}

/** Owners whose profiles are kept, at most: those that used theirs last. */
const maxOwners = 512;

/**
 * A store for each owner: VMs of one project share what is known of kernels, others do not. An inspector that has been
 * taken over can write wrong profiles, and must mislead nobody but its own tenant by them.
 */
export function openProfileStores(
  folder: string,
  log: (line: string) => void = () => {},
): (owner: string) => ProfileStore {
  const attempt = forgiving(folder, log);
  const file = (name: string) => join(folder, name);
  return (owner) => {
    const name = createHash("sha256").update(owner).digest("hex").slice(0, 32);
    attempt(() => {
      mkdirSync(file(name), { recursive: true, mode: 0o700 });
      const now = new Date();
      utimesSync(file(name), now, now);
      const oldestLast = readdirSync(folder)
        .map((entry) => ({ entry, time: at(file(entry)).time }))
        .sort((a, b) => b.time - a.time);
      for (const { entry } of oldestLast.slice(maxOwners)) rmSync(file(entry), { recursive: true, force: true });
    });
    return storeIn(file(name), defaults, attempt);
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
