// page_cache_files against stat(2) of every file of the guest's file systems in memory, of which all that is written is cached.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Without the bind mount, whose files have their names elsewhere. tmpfs counts the blocks that a file takes; ramfs does not, and its files have no holes here. */
const SCRIPT = `
import os, stat
for top in ('/', '/tmp', '/mnt/tmpfs'):
    device = os.stat(top).st_dev
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if os.lstat(os.path.join(folder, name)).st_dev == device and name != 'bound']
        for name in names:
            path = os.path.join(folder, name)
            s = os.lstat(path)
            if not stat.S_ISREG(s.st_mode) or s.st_dev != device or s.st_size == 0: continue
            pages = (s.st_size + 4095) // 4096 if top == '/' else s.st_blocks // 8
            if pages: print(s.st_ino, '%d:%d' % (os.major(s.st_dev), os.minor(s.st_dev)), s.st_size, pages, s.st_nlink, s.st_uid, path, sep='\\t')
`;

export const comparison: Comparison = {
  table: "page_cache_files",
  async compare(subject, guest) {
    const output = await subject.lab.exec(`python3 -I -S -c "${SCRIPT}"`);
    const rows = read(guest, "page_cache_files");
    const byKey = new Map(rows.map((row) => [`${row.device} ${row.inode}`, row]));
    let compared = 0;
    for (const line of output.trimEnd().split("\n")) {
      const [inode, device, size, pages, links, uid, path] = line.split("\t") as string[];
      const row = byKey.get(`${device} ${inode}`);
      assert.ok(row, `${path} is missing`);
      const { path: found, size: bytes, cached_pages, links: names, uid: owner, kind } = row;
      const expected = { size: Number(size), cached_pages: Number(pages), names: Number(links), owner: Number(uid) };
      assert.deepEqual({ size: bytes, cached_pages, names, owner }, expected, line);
      assert.equal(kind, "regular");
      if (links === "1") assert.equal(found, path);
      compared++;
    }
    assert.ok(compared > 200, `${compared} files`);
    const deleted = rows.filter((row) => row.links === 0);
    assert.ok(deleted.some(({ path, size }) => path === "/tmp/deleted-but-open" && size === 11_000));
    return `${compared} files`;
  },
};
