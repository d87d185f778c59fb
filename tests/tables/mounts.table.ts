// mounts against /proc/PID/mountinfo of a process in each mount namespace, and statfs(2) in the first one.
import assert from "node:assert/strict";
import { type TruthProcess, textOf } from "../../lab/index.ts";
import { type Row, read, type Subject } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

const unescaped = (text: string) =>
  text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** A line of mountinfo as a row; paths are from the root of the process that reads it. */
function parse(line: string): Row {
  const [before, after] = line.split(" - ") as [string, string];
  const [id, parent, device_number, root, path, mount_flags] = before.split(" ") as [string, ...string[]];
  const [type, device, options] = after.split(" ") as [string, string, string];
  const own = mount_flags!.split(",");
  const all = options.split(",");
  const flags = [
    all[0] === "ro" ? "ro" : own[0],
    ...all.filter((word) => ["sync", "dirsync", "lazytime"].includes(word)),
    ...own.slice(1),
  ].join();
  return {
    device: unescaped(device),
    path: unescaped(path!),
    type,
    flags,
    mount_flags: mount_flags!,
    root: unescaped(root!),
    device_number: device_number!,
    id: Number(id),
    parent: Number(parent),
  };
}

const sorted = (rows: readonly Row[]) => rows.toSorted((a, b) => (a.id as number) - (b.id as number));

export const comparison: Comparison = {
  table: "mounts",
  async compare(subject, guest) {
    const { processes } = await subject.lab.truth();
    /** Of each namespace a process, if there is one then one whose root is the namespace's own. */
    const members = new Map<number, TruthProcess>();
    for (const process of processes.values()) {
      const inode = Number(/\d+/.exec(process.namespaces.get("mnt") ?? "")?.[0]);
      if (!Number.isNaN(inode) && members.get(inode)?.root !== "/") members.set(inode, process);
    }
    const files = await subject.lab.readFiles([...members.values()].map(({ folder }) => `${folder}/mountinfo`));
    const rows = read(guest, "mounts");
    let compared = 0;
    for (const [inode, { pid, folder, root }] of members) {
      const file = files.get(`${folder}/mountinfo`);
      assert.ok(file?.kind === "file", `mountinfo of ${pid}`);
      const expected = textOf(file.data).trimEnd().split("\n").map(parse);
      const found = rows
        .filter((row) => row.mnt_namespace === inode)
        .map(({ device, path, type, flags, mount_flags, root: of, device_number, id, parent }): Row => {
          return { device, path, type, flags, mount_flags, root: of, device_number, id, parent } as Row;
        })
        // A namespace's first mount is on itself, and a root that is mounted over it hides it from everyone in there.
        .filter((row) => expected.some(({ id }) => id === row.id) || row.id !== row.parent || row.path !== "/");
      // One with another root sees only what is below it, by other paths.
      const seen = root === "/" ? found : found.filter(({ id }) => expected.some((row) => row.id === id));
      const pathless = (row: Row) => (root === "/" ? row : { ...row, path: "" });
      assert.deepEqual(sorted(seen.map(pathless)), sorted(expected.map(pathless)), `namespace ${inode}`);
      compared += expected.length;
    }
    assert.ok(members.size >= 4, `${members.size} mount namespaces`);
    const strangers = rows.filter(({ mnt_namespace }) => !members.has(mnt_namespace as number));
    assert.deepEqual(strangers, [], "no process is in this namespace");
    assert.ok(rows.some(({ path, root }) => path === "/mnt/bound" && root === "/mnt/source"));
    assert.ok(rows.some(({ path, device }) => path === "/mnt/source" && device === "hidden"));
    assert.ok(rows.some(({ path, type }) => path === "/mnt/disk" && type === "ext2"));
    const thawed = rows.find((row) => row.path === "/mnt/thawed");
    assert.deepEqual([thawed?.flags, thawed?.mount_flags], ["ro,sync,noatime", "rw,noatime"]);
    const { sizes, devices } = await compareSizes(
      subject,
      rows.filter((row) => row.mnt_namespace === Number(/\d+/.exec(processes.get(1)!.namespaces.get("mnt")!)![0])),
    );
    return `${compared} rows of ${members.size} namespaces, sizes of ${sizes}, ${devices} on devices`;
  },
};

const SIZES = ["blocks_size", "blocks", "blocks_free", "blocks_available", "inodes", "inodes_free"] as const;

/** The sizes of what is mounted where others can see it: of two mounts at one place, the later one. */
async function compareSizes(subject: Subject, rows: readonly Row[]): Promise<{ sizes: number; devices: number }> {
  const visible = [...new Map(rows.map((row) => [row.path as string, row])).values()];
  // A list of strings is written alike in both languages.
  const script = `import os
for path in ${JSON.stringify(visible.map(({ path }) => path))}:
    s = os.statvfs(path)
    print(s.f_bsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree)`;
  const lines = (await subject.lab.exec(`python3 -I -S - <<'END'\n${script}\nEND`)).trim().split("\n");
  let [sizes, devices] = [0, 0];
  for (const [i, row] of visible.entries()) {
    const path = row.path as string;
    if (typeof row.blocks === "number") {
      assert.deepEqual(
        SIZES.map((name) => row[name]),
        lines[i]!.split(" ").map(Number),
        path,
      );
      sizes++;
    } else assert.deepEqual(row.blocks, { absent: "unsupported" }, path);
    if (row.device_alias === null) continue;
    assert.equal(row.device_alias, (await subject.lab.exec(`readlink -f '${row.device}'`)).trim(), path);
    devices++;
  }
  const frozen = visible.find(({ path }) => path === "/mnt/frozen");
  assert.deepEqual([frozen?.blocks, frozen?.inodes], [100, 50]);
  return { sizes, devices };
}
