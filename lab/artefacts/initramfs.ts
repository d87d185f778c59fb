import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { cached, cacheFolder } from "./cache.ts";
import { type CpioEntry, cpio } from "./cpio.ts";
import type { Kernel } from "./kernel.ts";
import { run } from "./run.ts";

const guestFolder = join(import.meta.dirname, "../guest");

/** What of the unpacked packages a guest gets, at the place where it gets it. */
const wanted: readonly RegExp[] = [
  /^bin\/(busybox|bash-static)$/,
  /^usr\/bin\/python3\.11$/,
  /^usr\/lib\/python3\.11\/(?!lib-dynload)/,
  /^lib(64)?\/(x86_64-linux-gnu\/)?(ld-linux-x86-64\.so\.2|lib(c|m|z|expat)\.so\.[\d.]+)$/,
];

/** The userland of all guests, unpacked in the cache. */
export async function unpackUserland(debs: readonly string[], progress: (line: string) => void): Promise<string> {
  const key = createHash("sha256")
    .update(debs.map((deb) => basename(deb)).join())
    .digest("hex")
    .slice(0, 16);
  return cached(join(cacheFolder(), "userland", key), async (temporary) => {
    progress("unpacking the guests' userland");
    mkdirSync(temporary, { recursive: true });
    for (const deb of debs) await run("dpkg-deb", ["-x", deb, temporary]);
  });
}

/**
 * The initramfs of a kernel, named after its content: a changed guest script makes another file.
 * Not compressed: unpacking would cost an emulated guest more than loading a few megabytes more.
 */
export async function buildInitramfs(
  kernel: Kernel,
  userland: string,
  progress: (line: string) => void,
): Promise<string> {
  const entries: CpioEntry[] = [];
  const folders = new Set<string>();
  const folder = (path: string) => {
    if (path === "" || folders.has(path)) return;
    folder(path.split("/").slice(0, -1).join("/"));
    folders.add(path);
    entries.push({ kind: "directory", path });
  };
  const add = (entry: CpioEntry) => {
    folder(entry.path.split("/").slice(0, -1).join("/"));
    entries.push(entry);
  };
  const link = (path: string, target: string) => add({ kind: "link", path, target });

  for (const path of [
    "proc",
    "sys",
    "run",
    "tmp",
    "root",
    "dev",
    "bin",
    "etc",
    "var/log",
    "usr/lib/python3.11/lib-dynload",
  ])
    folder(path);
  add({ kind: "character", path: "dev/console", major: 5, minor: 1 });
  for (const path of readdirSync(userland, { recursive: true, encoding: "utf8" }).sort()) {
    if (!wanted.some((pattern) => pattern.test(path))) continue;
    const file = join(userland, path);
    const kind = lstatSync(file);
    if (kind.isSymbolicLink()) link(path, readlinkSync(file));
    else if (kind.isFile())
      add({ kind: "file", path, data: readFileSync(file), executable: (kind.mode & 0o100) !== 0 });
  }
  link("init", "/bin/busybox");
  link("bin/sh", "busybox");
  link("bin/mount", "busybox");
  link("bin/mkdir", "busybox");
  link("bin/bash", "bash-static");
  link("usr/bin/python3", "python3.11");
  add({ kind: "file", path: "etc/passwd", data: readFileSync(join(guestFolder, "passwd")) });
  add({ kind: "file", path: "etc/inittab", data: readFileSync(join(guestFolder, "inittab")) });
  for (const name of ["start", "control.py", "workload.py", "server.py"]) {
    add({
      kind: "file",
      path: `lab/${name}`,
      data: readFileSync(join(guestFolder, name)),
      executable: name === "start",
    });
  }
  for (const name of readdirSync(kernel.modules).sort()) {
    const path = name.endsWith(".ko") ? `lab/modules/${name}` : `lab/${name}`;
    add({ kind: "file", path, data: readFileSync(join(kernel.modules, name)) });
  }
  const archive = cpio(entries);
  const key = createHash("sha256").update(archive).digest("hex").slice(0, 16);
  return cached(join(cacheFolder(), "initramfs", `${kernel.release}-${key}.cpio`), (temporary) => {
    progress(`built the initramfs for ${kernel.release}, ${Math.round(archive.length / 1048576)} MiB`);
    writeFileSync(temporary, archive);
  });
}

/** Path of the static busybox of the userland, which also runs on the host. */
export function busyboxOf(userland: string): string {
  const path = join(userland, "bin/busybox");
  if (!statSync(path).isFile()) throw new Error(`${path} is not a file: delete ${cacheFolder()} and run again`);
  return path;
}
