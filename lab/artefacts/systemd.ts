import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename, join } from "node:path";
import { fetchSystem } from "./apt.ts";
import { cached, cacheFolder } from "./cache.ts";
import type { CpioEntry } from "./cpio.ts";
import { run } from "./run.ts";

const guestFolder = join(import.meta.dirname, "../guest");

/** Needed to install packages, which nobody does in a guest: they are only unpacked. */
const leftOut = /^(perl|libperl|lib.*-perl|adduser|debconf|dpkg|usrmerge|gcc-.*-base|tar)/;
const unread = /^usr\/share\/(doc|man|locale|info|lintian|i18n|perl|bash-completion|zsh|polkit-1)(\/|$)|\/hwdb\.d\//;

/** The root file system of a guest with systemd, unpacked in the cache. */
export async function unpackSystem(progress: (line: string) => void): Promise<string> {
  const packages = await fetchSystem(progress);
  return cached(join(cacheFolder(), "system-roots", basename(packages)), async (temporary) => {
    progress("unpacking a system with systemd");
    mkdirSync(temporary, { recursive: true });
    for (const deb of readdirSync(packages).sort()) {
      if (deb.endsWith(".deb") && !leftOut.test(deb)) await run("dpkg-deb", ["-x", join(packages, deb), temporary]);
    }
  });
}

/** What an initramfs gets of such a system, over what it has for a guest without: the first program is systemd. */
export function systemEntries(root: string): CpioEntry[] {
  const entries: CpioEntry[] = [];
  for (const path of readdirSync(root, { recursive: true, encoding: "utf8" }).sort()) {
    const kind = lstatSync(join(root, path));
    if (unread.test(path)) continue;
    if (kind.isDirectory()) entries.push({ kind: "directory", path });
    else if (kind.isSymbolicLink()) entries.push({ kind: "link", path, target: readlinkSync(join(root, path)) });
    else {
      const data = readFileSync(join(root, path));
      entries.push({ kind: "file", path, data, executable: (kind.mode & 0o100) !== 0 });
    }
  }
  const text = (path: string, data: Uint8Array) => entries.push({ kind: "file", path, data });
  const link = (path: string, target: string) => entries.push({ kind: "link", path, target });
  const master = (name: string) => readFileSync(join(root, "usr/share/base-passwd", `${name}.master`));
  const users = readFileSync(join(guestFolder, "passwd"), "utf8").split("\n");
  text("etc/passwd", Buffer.concat([master("passwd"), Buffer.from(`${users.at(-2)}\n`)]));
  text("etc/group", master("group"));
  // Empty, not missing: else systemd takes it for the first boot and asks questions on the console.
  text("etc/machine-id", Buffer.alloc(0));
  entries.push({ kind: "directory", path: "lab/systemd" });
  text("lab/systemd/start", readFileSync(join(guestFolder, "systemd/start")));
  text("etc/systemd/system/lab.service", readFileSync(join(guestFolder, "systemd/lab.service")));
  // As installing a package would enable it.
  const wants = "etc/systemd/system/multi-user.target.wants";
  entries.push({ kind: "directory", path: wants });
  link(`${wants}/lab.service`, "/etc/systemd/system/lab.service");
  link(`${wants}/cron.service`, "/lib/systemd/system/cron.service");
  link("init", "/lib/systemd/systemd");
  return entries;
}
