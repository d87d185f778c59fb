import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { cached, cacheFolder } from "./cache.ts";
import { run } from "./run.ts";

/** Needed before the lab can talk to its guest (built in on some kernels). */
const controlModules = ["virtio_pci", "virtio_console"];
/** For the guest's own list of modules: some with dependencies, holders and parameters. */
const workloadModules = ["loop", "dummy", "tun", "bridge", "overlay", "vsock"];
/**
 * For the workload "full": what its programs need beside these. crc32c_generic, a module in some flavours, is wanted by
 * libcrc32c at its start, which no `depends=` says.
 */
const fullModules = [
  "crc32c_generic",
  "veth",
  "nf_tables",
  "nft_chain_nat",
  "af_packet",
  "vsock_loopback",
  "nfnetlink_hook",
];
const orders = {
  "modules.control": controlModules,
  "modules.workload": workloadModules,
  "modules.full": fullModules,
};

/** A kernel ready to be booted. */
export interface Kernel {
  /** As `uname -r` says it. */
  release: string;
  /** The kernel's compressed image. */
  image: string;
  /** Folder of the modules chosen for the lab, decompressed. */
  modules: string;
}

/** Unpacks what the lab needs of a kernel package into the cache. */
export async function unpackKernel(deb: string, busybox: string, progress: (line: string) => void): Promise<Kernel> {
  // Other modules are another unpacking.
  const chosen = createHash("sha256").update(JSON.stringify(orders)).digest("hex").slice(0, 8);
  const name = `${basename(deb, ".deb")}-${chosen}`;
  const folder = await cached(join(cacheFolder(), "kernels", name), async (temporary) => {
    progress(`unpacking ${basename(deb, ".deb")}`);
    const all = `${temporary}/all`;
    mkdirSync(all, { recursive: true });
    await run("dpkg-deb", ["-x", deb, all]);
    const image = readdirSync(join(all, "boot")).find((file) => file.startsWith("vmlinuz-"));
    if (!image) throw new Error(`${deb} holds no kernel image`);
    const release = image.slice("vmlinuz-".length);
    renameSync(join(all, "boot", image), join(temporary, "vmlinuz"));
    writeFileSync(join(temporary, "release"), release);
    await takeModules(join(all, "lib/modules", release), join(temporary, "modules"), busybox);
    rmSync(all, { recursive: true });
  });
  return {
    release: readFileSync(join(folder, "release"), "utf8"),
    image: join(folder, "vmlinuz"),
    modules: join(folder, "modules"),
  };
}

/** Copies modules with all they depend on, and writes the orders to load them in. */
async function takeModules(from: string, to: string, busybox: string): Promise<void> {
  mkdirSync(to, { recursive: true });
  const files = new Map<string, string>();
  for (const file of readdirSync(from, { recursive: true, encoding: "utf8" })) {
    const module = /([^/]+)\.ko(\.xz)?$/.exec(file)?.[1];
    if (module) files.set(module.replaceAll("-", "_"), join(from, file));
  }
  const taken = new Set<string>();
  const take = async (module: string, order: string[]): Promise<void> => {
    const file = files.get(module);
    // Not a file: built into this kernel.
    if (!file || taken.has(module)) return;
    taken.add(module);
    const code = file.endsWith(".xz") ? await run(busybox, ["xz", "-dc", file]) : readFileSync(file);
    for (const other of moduleDependencies(code)) await take(other, order);
    writeFileSync(join(to, `${module}.ko`), code);
    order.push(`${module}.ko\n`);
  };
  for (const [list, modules] of Object.entries(orders)) {
    const order: string[] = [];
    for (const module of modules) await take(module, order);
    writeFileSync(join(to, list), order.join(""));
  }
}

/** The modules a module needs, from its own .modinfo section (the package brings no modules.dep). */
export function moduleDependencies(code: Buffer): string[] {
  const at = code.indexOf("\0depends=");
  if (at < 0) return [];
  const start = at + "\0depends=".length;
  const text = code.toString("latin1", start, code.indexOf(0, start));
  return text
    .split(",")
    .filter((name) => name !== "")
    .map((name) => name.replaceAll("-", "_"));
}
