// file_contents against what the guest reads from the same files, byte for byte, with holes where it has written nothing.
import assert from "node:assert/strict";
import { textOf } from "../../lab/index.ts";
import type { Guest } from "../../vmi/index.ts";
import { type Row, read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

const HUGE_PAGE = 2 << 20;

const contentOf = (guest: Guest, column: string, value: string) =>
  read(guest, "file_contents", { where: [{ column, values: [value] }] });

/** The file as the rows give it, zeros for what is missing. They must follow one another without a gap. */
function joined(rows: readonly Row[]): string {
  let end = 0;
  return rows
    .map(({ offset, length, present, data }) => {
      assert.equal(offset, end);
      end += length as number;
      assert.equal(present === 1, typeof data === "string");
      return present === 1 ? (data as string) : "\0".repeat(length as number);
    })
    .join("");
}

/** Files of a file system on a block device, as lab/guest/full/files.py wrote them. They are not read: that would fill holes. */
function onDisk(guest: Guest): void {
  const piecesOf = (rows: readonly Row[]) => rows.map(({ offset, length, present }) => [offset, length, present]);
  const sparse = contentOf(guest, "path", "/mnt/disk/sparse");
  assert.deepEqual(
    piecesOf(sparse).filter(([, , present]) => present === 0),
    [[4096, 9 * 4096, 0]],
  );
  assert.equal(joined(sparse), "head\n".repeat(100).padEnd(10 * 4096, "\0") + "tail\n".repeat(2000));
  const partial = contentOf(guest, "path", "/mnt/disk/partial");
  const page = (number: number) => `${`page ${String(number).padStart(4)}\n`.repeat(409)}.....\n`;
  const cached = new Map<number, string>();
  for (const { offset, length, present, data } of partial) {
    for (let at = 0; present === 1 && at < (length as number); at += 4096) {
      cached.set(((offset as number) + at) / 4096, (data as string).slice(at, at + 4096));
    }
  }
  assert.deepEqual(cached, new Map([0, 10, 11, 40].map((number) => [number, page(number)])));
  assert.equal(joined(partial).length, 64 * 4096);
}

/** What is in memory of a file of an overlay is the layer's: there it is whole, and here it is said where. */
function onOverlay(guest: Guest): void {
  const program = joined(contentOf(guest, "path", "/bin/busybox"));
  for (const layer of ["lower", "upper"]) {
    const found = joined(contentOf(guest, "path", `/tmp/overlay/${layer}/${layer}-program`));
    assert.ok(found === program, `the ${layer} layer's file differs`);
  }
  const { rows, notes } = guest.table("file_contents", {
    where: [{ column: "path", values: ["/mnt/overlay/lower-program"] }],
  });
  assert.equal(rows, 0);
  assert.ok(
    notes.some((note) => note.startsWith("/mnt/overlay/lower-program is on an overlay")),
    notes.join(),
  );
}

/** A file of 2^62 bytes and more, with a page in its midst and a piece at its end. */
function vast(guest: Guest): void {
  const rows = contentOf(guest, "path", "/mnt/tmpfs/vast");
  const [middle, last] = [2n ** 60n, 2n ** 62n + 12_288n];
  assert.deepEqual(
    rows.map(({ offset, length, data }) => [
      offset,
      length,
      typeof data === "string" ? data.replaceAll("\0", "") : data,
    ]),
    [
      [0, middle, null],
      [middle, 4096, "far\n"],
      [middle + 4096n, last - middle - 4096n, null],
      [last, 57, "end\n"],
    ],
  );
}

export const comparison: Comparison = {
  table: "file_contents",
  async compare(subject, guest) {
    const paths = ["/etc/passwd", "/lab/workload.py", "/bin/busybox", "/mnt/source/file"];
    const files = await subject.lab.readFiles(paths);
    let bytes = 0;
    for (const path of paths) {
      const file = files.get(path);
      assert.ok(file?.kind === "file", path);
      const found = joined(contentOf(guest, "path", path));
      assert.ok(found === textOf(file.data), `${path} differs`);
      bytes += found.length;
    }
    onOverlay(guest);
    // Deleted and still open, and in memory only: by their inodes.
    const held = read(guest, "process_open_files").filter(({ path }) =>
      ["/tmp/deleted-but-open", "/memfd:sealed", "/memfd:mapped", "/memfd:huge"].includes(String(path)),
    );
    const inodeOf = (path: string) => {
      const file = held.find((row) => row.path === path);
      assert.ok(file, path);
      return { inode: String(file.inode), device: file.device };
    };
    const recovered = (path: string) => {
      const { inode, device } = inodeOf(path);
      return contentOf(guest, "inode", inode).filter((row) => row.device === device);
    };
    assert.equal(joined(recovered("/tmp/deleted-but-open")), "still here\n".repeat(1000));
    assert.equal(joined(recovered("/memfd:sealed")), "sealed content\n".repeat(500));
    const sparse = recovered("/memfd:mapped");
    assert.deepEqual(
      sparse.map(({ offset, length, present }) => [offset, length, present]),
      [
        [0, 4096, 0],
        [4096, 4096, 1],
        [8192, 57_344, 0],
      ],
    );
    assert.equal(joined(sparse).slice(4096, 4104), "data\0\0\0\0");
    // Of three huge pages the first was never written; the others have the numbers of three of their pages.
    const huge = recovered("/memfd:huge");
    assert.deepEqual([huge[0]!.offset, huge[0]!.length, huge[0]!.present], [0, HUGE_PAGE, 0]);
    assert.ok(huge.slice(1).every(({ present }) => present === 1));
    const written = [512, 1000, 1024].map((page) => [page * 4096, String(page).padStart(5)] as const);
    const content = joined(huge);
    assert.equal(content.length, 3 * HUGE_PAGE);
    assert.deepEqual(
      [...content.matchAll(/[^\0]+/g)].map(({ index, 0: text }) => [index, text]),
      written,
    );
    onDisk(guest);
    vast(guest);
    return `${bytes} bytes of ${paths.length} files, two of a disk, and four that have no name`;
  },
};
