import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { cached, cacheFolder } from "./cache.ts";
import { run } from "./run.ts";

/** The kernel series of which guests can be had. */
export const kernelSeries = ["6.1", "6.12"] as const;
export type KernelSeries = (typeof kernelSeries)[number];
/** Debian's builds of a series: for virtual machines, for any machine, and with full preemption. */
export const kernelFlavours = ["cloud", "generic", "rt"] as const;
export type KernelFlavour = (typeof kernelFlavours)[number];
/** The oldest and the newest release of a series that the archive offers. */
export const kernelReleases = ["first", "latest"] as const;
export type KernelRelease = (typeof kernelReleases)[number];

/** One kernel of the archive. */
export interface KernelChoice {
  readonly kernel: KernelSeries;
  readonly flavour: KernelFlavour;
  readonly release: KernelRelease;
}

/** What a guest is made of besides its kernel, all from one Debian release so that it fits together. */
const userland = [
  "busybox-static",
  "bash-static",
  "python3.11-minimal",
  "libpython3.11-minimal",
  "libpython3.11-stdlib",
  "libffi8",
  "libc6",
  "zlib1g",
  "libexpat1",
] as const;
export type UserlandPackage = (typeof userland)[number];

const kernelVersions: Record<KernelSeries, string> = {
  "6.1": "6\\.1\\.\\d+-\\d+",
  "6.12": "6\\.12\\.\\d+\\+deb12(?:\\.\\d+)?",
};
const flavourNames: Record<KernelFlavour, string> = { cloud: "-cloud", generic: "", rt: "-rt" };

/** Those of the names that are kernels of a series and flavour, oldest first. */
export function kernelPackages(names: readonly string[], series: KernelSeries, flavour: KernelFlavour): string[] {
  const pattern = new RegExp(`^linux-image-${kernelVersions[series]}${flavourNames[flavour]}-amd64$`);
  return names.filter((name) => pattern.test(name)).sort(new Intl.Collator("en", { numeric: true }).compare);
}

/** Downloaded packages: paths of .deb files. */
export interface Packages {
  kernels: Record<KernelSeries, string>;
  userland: string[];
}

/** Options for apt that choose whose package lists are used: the host's own or ours. */
type AptState = readonly string[];

/**
 * The newest kernel of each series and the userland, as .deb files in the cache.
 * @param refresh look for newer ones though some are cached
 */
export async function fetchPackages(progress: (line: string) => void, refresh: boolean): Promise<Packages> {
  const record = join(cacheFolder(), "packages.json");
  if (!refresh && existsSync(record)) {
    const packages = JSON.parse(readFileSync(record, "utf8")) as Packages;
    const files = [...Object.values(packages.kernels), ...packages.userland];
    const complete = packages.userland.length === userland.length;
    if (complete && files.every((file) => existsSync(file))) return packages;
  }
  // The host's own lists first. They may lack a series, or be so old that the files they name are gone.
  const files = await fetchWith([], progress).catch(() => undefined);
  const [first, second, ...rest] = files ?? (await fetchWith(await privateState(progress), progress));
  const packages: Packages = { kernels: { "6.1": first, "6.12": second }, userland: rest };
  writeFileSync(`${record}.tmp`, JSON.stringify(packages, null, 2));
  renameSync(`${record}.tmp`, record);
  return packages;
}

/** The kernels of both series, then the userland. */
async function fetchWith(state: AptState, progress: (line: string) => void): Promise<[string, string, ...string[]]> {
  const kernels = await offered(state);
  if (!kernels) throw new Error(missingText());
  const fetched: string[] = [];
  for (const name of userland) fetched.push(await download(state, name, progress));
  return [
    await download(state, kernels["6.1"], progress),
    await download(state, kernels["6.12"], progress),
    ...fetched,
  ];
}

/** The newest kernel package of each series, or nothing when these lists lack something the lab needs. */
async function offered(state: AptState): Promise<Record<KernelSeries, string> | undefined> {
  const names = await packageNames(state);
  const newest = (series: KernelSeries) => kernelPackages(names, series, "cloud").at(-1);
  const kernels = { "6.1": newest("6.1"), "6.12": newest("6.12") };
  if (!kernels["6.1"] || !kernels["6.12"] || !userland.every((name) => names.includes(name))) return undefined;
  return { "6.1": kernels["6.1"], "6.12": kernels["6.12"] };
}

async function packageNames(state: AptState): Promise<string[]> {
  return (await run("apt-cache", [...state, "pkgnames"])).toString().split("\n");
}

let ownLists: Promise<AptState> | undefined;

/**
 * Any kernel of the archive, as a .deb file in the cache. Which is first and latest is what the archive offered when it was
 * asked for the first time: delete the cache's record, kernels.json, to ask anew.
 */
export async function fetchKernel(choice: KernelChoice, progress: (line: string) => void): Promise<string> {
  const { kernel, flavour, release } = choice;
  const key = `${kernel}-${flavour}-${release}`;
  const record = join(cacheFolder(), "kernels.json");
  const known: Record<string, string> = existsSync(record) ? JSON.parse(readFileSync(record, "utf8")) : {};
  const found = known[key];
  if (found !== undefined && existsSync(found)) return found;
  // The host's own lists may hold a part of them only.
  ownLists ??= privateState(progress);
  const state = await ownLists;
  const name = kernelPackages(await packageNames(state), kernel, flavour).at(release === "first" ? 0 : -1);
  if (name === undefined) throw new Error(`the archive offers no ${flavour} kernel ${kernel}`);
  known[key] = await download(state, name, progress);
  writeFileSync(`${record}.tmp`, JSON.stringify(known, null, 2));
  renameSync(`${record}.tmp`, record);
  return known[key];
}

/**
 * What a module of a kernel is built with, as .deb files in the cache: the kernel's headers, those that it shares with other
 * flavours, and the build's own programs.
 */
export async function fetchHeaders(release: string, progress: (line: string) => void): Promise<string[]> {
  ownLists ??= privateState(progress);
  const state = await ownLists;
  const name = `linux-headers-${release}`;
  if (!(await packageNames(state)).includes(name)) {
    throw new Error(`the archive has no ${name} any more: fetch newer kernels with node lab/main.ts prepare --refresh`);
  }
  const shown = (await run("apt-cache", [...state, "show", "--no-all-versions", name])).toString();
  const fetched: string[] = [];
  for (const wanted of [name, ...headerDependencies(shown)]) fetched.push(await download(state, wanted, progress));
  return fetched;
}

/** The packages of headers and build programs that a package of headers depends on, of what apt-cache shows of it. */
export function headerDependencies(shown: string): string[] {
  const depends = /^Depends: (.*)$/m.exec(shown)?.[1] ?? "";
  return [...depends.matchAll(/\blinux-(?:headers|kbuild)-[^\s,]+/g)].map(([name]) => name);
}

/** What a guest with systemd has; all that these depend on comes with them. */
const system = ["systemd-sysv", "udev", "dbus", "login", "cron", "kmod", "procps", "util-linux", "bash", "coreutils"];

/** The packages of a system with systemd: a folder of .deb files in the cache, named after what was asked for. */
export async function fetchSystem(progress: (line: string) => void): Promise<string> {
  const names = [...system, "base-files", "base-passwd"];
  const key = createHash("sha256").update(names.join()).digest("hex").slice(0, 16);
  return cached(join(cacheFolder(), "system-packages", key), async (temporary) => {
    ownLists ??= privateState(progress);
    const state = await ownLists;
    mkdirSync(join(temporary, "partial"), { recursive: true });
    // A system on which nothing is installed yet, so that nothing is left out.
    writeFileSync(join(temporary, "status"), "");
    const own = ["-o", `Dir::State::status=${join(temporary, "status")}`, "-o", `Dir::Cache::archives=${temporary}`];
    progress("downloading a system with systemd");
    await run("apt-get", [
      ...state,
      ...own,
      "install",
      "--yes",
      "--no-install-recommends",
      "--download-only",
      ...names,
    ]);
  });
}

async function download(state: AptState, name: string, progress: (line: string) => void): Promise<string> {
  const folder = join(cacheFolder(), "packages");
  mkdirSync(folder, { recursive: true });
  // The version belongs to the name in the cache: a refreshed package is another file.
  const shown = (await run("apt-cache", [...state, "show", "--no-all-versions", name])).toString();
  const version = /^Version: (.*)$/m.exec(shown)?.[1]?.replaceAll(/[^\w.+~-]/g, "_");
  return cached(join(folder, `${name}_${version}.deb`), async (temporary) => {
    progress(`downloading ${name}`);
    const work = mkdtempSync(join(folder, "download-"));
    try {
      await run("apt-get", [...state, "-o", "APT::Sandbox::User=", "download", name], { cwd: work });
      const [file] = readdirSync(work);
      if (!file) throw new Error(`apt-get download ${name} left no file`);
      renameSync(join(work, file), temporary);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
}

/** Package lists of our own, for a user or host whose lists lack the kernels: Debian 12 by the mirror the host already uses. */
async function privateState(progress: (line: string) => void): Promise<AptState> {
  const root = join(cacheFolder(), "apt");
  for (const folder of ["state/lists/partial", "cache/archives/partial"])
    mkdirSync(join(root, folder), { recursive: true });
  const sources = join(root, "sources.list");
  writeFileSync(sources, privateSources(await mirrors()));
  const state = [
    ["Dir::State", join(root, "state")],
    ["Dir::State::lists", join(root, "state/lists")],
    ["Dir::Cache", join(root, "cache")],
    ["Dir::Etc::sourcelist", sources],
    ["Dir::Etc::sourceparts", "-"],
    ["Dir::Etc::preferences", "-"],
    ["Dir::Etc::preferencesparts", "-"],
    ["Debug::NoLocking", "1"],
    ["APT::Sandbox::User", ""],
  ].flatMap(([key, value]) => ["-o", `${key}=${value}`]);
  progress("fetching package lists of Debian 12");
  await run("apt-get", [...state, "update"]);
  return state;
}

/** What the host's configuration says of where Debian is: `site release` pairs. */
async function mirrors(): Promise<{ main: string; security: string | undefined }> {
  const told = process.env.CLOUDVMI_LAB_DEBIAN_MIRROR;
  if (told) return { main: told, security: undefined };
  const listed = (await run("apt-get", ["indextargets", "--no-release-info", "--format", "$(SITE) $(RELEASE)"]))
    .toString()
    .split("\n");
  const pairs = listed.map((line) => line.split(" ")).filter((pair) => pair.length === 2) as [string, string][];
  const security = pairs.find(([, release]) => release.endsWith("-security"))?.[0];
  const main = pairs.find(([site, release]) => site !== security && /^[a-z]+$/.test(release))?.[0] ?? pairs[0]?.[0];
  if (!main) throw new Error(missingText());
  return { main, security };
}

/** The text of a sources.list for Debian 12. */
export function privateSources({ main, security }: { main: string; security: string | undefined }): string {
  const keys = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
  const lines = [`deb ${keys} ${main} bookworm main`, `deb ${keys} ${main} bookworm-backports main`];
  if (security) lines.push(`deb ${keys} ${security} bookworm-security main`);
  return `${lines.join("\n")}\n`;
}

function missingText(): string {
  return (
    "the lab's guests are made of Debian 12 packages (cloud kernels 6.1 and 6.12), which apt does not offer here: " +
    "run `apt-get update`, or name a Debian mirror in CLOUDVMI_LAB_DEBIAN_MIRROR"
  );
}
