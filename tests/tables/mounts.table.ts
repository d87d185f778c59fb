// mounts against /proc/PID/mountinfo of a process in each mount namespace.
import assert from "node:assert/strict";
import { type TruthProcess, textOf } from "../../lab/index.ts";
import { type Row, read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

const unescaped = (text: string) =>
  text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** A line of mountinfo as a row; paths are from the root of the process that reads it. */
function parse(line: string): Row {
  const [before, after] = line.split(" - ") as [string, string];
  const [id, parent, device_number, root, path, flags] = before.split(" ") as [string, ...string[]];
  const [type, device] = after.split(" ") as [string, string];
  return {
    device: unescaped(device),
    path: unescaped(path!),
    type,
    flags: flags!,
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
    const files = await subject.lab.readFiles([...members.values()].map(({ pid }) => `/proc/${pid}/mountinfo`));
    const rows = read(guest, "mounts");
    let compared = 0;
    for (const [inode, { pid, root }] of members) {
      const file = files.get(`/proc/${pid}/mountinfo`);
      assert.ok(file?.kind === "file", `mountinfo of ${pid}`);
      const expected = textOf(file.data).trimEnd().split("\n").map(parse);
      const found = rows
        .filter((row) => row.mnt_namespace === inode)
        .map(({ mnt_namespace: _, mount: __, ...row }) => row)
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
    return `${compared} rows of ${members.size} namespaces`;
  },
};
