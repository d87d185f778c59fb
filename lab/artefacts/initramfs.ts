import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { UserlandPackage } from "./apt.ts";
import { cached, cacheFolder } from "./cache.ts";
import { type CpioEntry, cpio } from "./cpio.ts";
import type { Kernel } from "./kernel.ts";
import { run } from "./run.ts";

const guestFolder = join(import.meta.dirname, "../guest");

const library = /^(usr\/)?lib(64)?\/(x86_64-linux-gnu\/)?(ld-linux-x86-64\.so\.2|lib(c|m|z|expat|ffi)\.so\.[\d.]+)$/;

/** What a guest gets of each package, at the place where it has it there. */
const wanted: Record<UserlandPackage, RegExp> = {
  "busybox-static": /^bin\/busybox$/,
  "bash-static": /^bin\/bash-static$/,
  "python3.11-minimal": /^usr\/(bin\/python3\.11$|lib\/python3\.11\/)/,
  "libpython3.11-minimal": /^usr\/lib\/python3\.11\/(?!lib-dynload)/,
  // ctypes makes any system call.
  "libpython3.11-stdlib": /^usr\/lib\/python3\.11\/(ctypes\/(__init__|_endian)\.py|lib-dynload\/(_ctypes|mmap)\.)/,
  libffi8: library,
  libc6: library,
  zlib1g: library,
  libexpat1: library,
};

/** The userland of all guests, unpacked in the cache: a folder for each package. */
export async function unpackUserland(debs: readonly string[], progress: (line: string) => void): Promise<string> {
  const key = createHash("sha256")
    .update(debs.map((deb) => basename(deb)).join())
    .digest("hex")
    .slice(0, 16);
  return cached(join(cacheFolder(), "userland-packages", key), async (temporary) => {
    progress("unpacking the guests' userland");
    mkdirSync(temporary, { recursive: true });
    for (const deb of debs) await run("dpkg-deb", ["-x", deb, join(temporary, basename(deb).split("_", 1)[0]!)]);
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

  for (const path of ["proc", "sys", "run", "tmp", "root", "dev", "bin", "etc", "var/log"]) folder(path);
  add({ kind: "character", path: "dev/console", major: 5, minor: 1 });
  for (const [name, pattern] of Object.entries(wanted)) {
    for (const path of readdirSync(join(userland, name), { recursive: true, encoding: "utf8" }).sort()) {
      if (!pattern.test(path)) continue;
      const file = join(userland, name, path);
      const kind = lstatSync(file);
      if (kind.isSymbolicLink()) link(path, readlinkSync(file));
      else if (kind.isFile())
        add({ kind: "file", path, data: readFileSync(file), executable: (kind.mode & 0o100) !== 0 });
    }
  }
  link("init", "/bin/busybox");
  link("bin/sh", "busybox");
  link("bin/mount", "busybox");
  link("bin/mkdir", "busybox");
  link("bin/bash", "bash-static");
  link("usr/bin/python3", "python3.11");
  add({ kind: "file", path: "etc/passwd", data: readFileSync(join(guestFolder, "passwd")) });
  add({ kind: "file", path: "etc/inittab", data: readFileSync(join(guestFolder, "inittab")) });
  const scripts = ["start", "control.py", "workload.py", "server.py", ...fullScripts().map((name) => `full/${name}`)];
  for (const name of scripts) {
    const data = readFileSync(join(guestFolder, name));
    add({ kind: "file", path: `lab/${name}`, data, executable: name === "start" });
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

/** An initramfs with more behind it: the kernel unpacks one archive after the other, and the later one wins. */
export async function extendInitramfs(
  initramfs: string,
  what: string,
  entries: readonly CpioEntry[],
  progress: (line: string) => void,
): Promise<string> {
  const archive = cpio(entries);
  const key = createHash("sha256").update(archive).digest("hex").slice(0, 16);
  const name = `${basename(initramfs, ".cpio")}-${what}-${key}.cpio`;
  return cached(join(cacheFolder(), "initramfs", name), (temporary) => {
    progress(`built the initramfs with ${what}, ${Math.round(archive.length / 1048576)} MiB more`);
    writeFileSync(temporary, Buffer.concat([readFileSync(initramfs), archive]));
  });
}

/** The programs of the workload "full", one for each subsystem. */
function fullScripts(): string[] {
  return readdirSync(join(guestFolder, "full"))
    .filter((name) => name.endsWith(".py"))
    .sort();
}

/** Path of the static busybox of the userland, which also runs on the host. */
export function busyboxOf(userland: string): string {
  const path = join(userland, "busybox-static/bin/busybox");
  if (!statSync(path).isFile()) throw new Error(`${path} is not a file: delete ${cacheFolder()} and run again`);
  return path;
}
