// mounts against /proc/PID/mountinfo of one process in each mount namespace.
import assert from "node:assert/strict";
import { textOf } from "../../lab/index.ts";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

const unescaped = (text: string) =>
  text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

export const comparison: Comparison = {
  table: "mounts",
  async compare(subject, guest) {
    const { processes } = await subject.lab.truth();
    /** The first process of each namespace whose root is the namespace's own. */
    const members = new Map<number, number>();
    for (const { pid, namespaces, root } of processes.values()) {
      const inode = Number(/\d+/.exec(namespaces.get("mnt") ?? "")?.[0]);
      if (root === "/" && !Number.isNaN(inode) && !members.has(inode)) members.set(inode, pid);
    }
    const files = await subject.lab.readFiles([...members.values()].map((pid) => `/proc/${pid}/mountinfo`));
    const rows = read(guest, "mounts");
    let compared = 0;
    for (const [inode, pid] of members) {
      const file = files.get(`/proc/${pid}/mountinfo`);
      assert.ok(file?.kind === "file", `mountinfo of ${pid}`);
      const expected = textOf(file.data)
        .trimEnd()
        .split("\n")
        .map((line) => {
          const [before, after] = line.split(" - ") as [string, string];
          const [id, parent, device_number, root, path, flags] = before.split(" ") as [string, ...string[]];
          const [type, device] = after.split(" ") as [string, string];
          return {
            device: unescaped(device),
            path: unescaped(path!),
            type,
            flags,
            root: unescaped(root!),
            device_number,
            id: Number(id),
            parent: Number(parent),
          };
        });
      const found = rows
        .filter((row) => row.mnt_namespace === inode)
        .map(({ mnt_namespace: _, mount: __, ...row }) => row)
        // A namespace's first mount is on itself, and a root that is mounted over it hides it from everyone in there.
        .filter((row) => expected.some(({ id }) => id === row.id) || row.id !== row.parent || row.path !== "/");
      const sorted = <T extends { id?: unknown }>(list: T[]) =>
        list.toSorted((a, b) => (a.id as number) - (b.id as number));
      assert.deepEqual(sorted(found), sorted(expected), `namespace ${inode}`);
      compared += expected.length;
    }
    assert.ok(members.size >= 3, `${members.size} mount namespaces`);
    const strangers = rows.filter(({ mnt_namespace }) => !members.has(mnt_namespace as number));
    assert.deepEqual(strangers, [], "no process is in this namespace");
    assert.ok(rows.some(({ path, root }) => path === "/mnt/bound" && root === "/mnt/source"));
    assert.ok(rows.some(({ path, device }) => path === "/mnt/source" && device === "hidden"));
    return `${compared} rows of ${members.size} namespaces`;
  },
};
