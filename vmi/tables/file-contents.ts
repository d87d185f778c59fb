import { difference, type Integer, product } from "../bytes/integer.ts";
import { type CachedFile, pathOfInode, walkCachedFiles, walkCachedFilesAt } from "../linux/cached-files.ts";
import { factsOfInode, formatDevice } from "../linux/file.ts";
import { walkCachedPages } from "../linux/page-cache.ts";
import { CELL } from "./columns.ts";
import { isWanted, isWantedNumber } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

const PAGE_SIZE = 4096;
/** Bytes of one row. */
const PIECE = 65_536;

/** The bytes of a file as the guest has them in memory; what is not there is a row without data. */
export const fileContents = defineTable({
  name: "file_contents",
  description: "Content of a file as far as it is in memory, also of one that is deleted; holes are marked",
  columns: {
    path: text("Path, as in page_cache_files: of a file of an overlay, that of the file in its upper or lower layer", {
      key: true,
    }),
    inode: integer("Inode", { key: true }),
    device: text("Device of the file system, major:minor, decimal"),
    offset: integer("Where in the file the bytes are"),
    length: integer("How many, up to 64 KiB of what is in memory"),
    present: integer("1 for content; 0 for what is not in memory: on disk only, in swap, or never written"),
    data: text("The bytes as they are"),
  },
  permission: "read",
  cost: "walk",
  required: ["path", "inode"],
  reads: ["super_blocks", "super_block", "inode", "address_space", "page", "vmemmap_base", "dentry", "mount"],
  examples: [
    "SELECT offset, length, present FROM file_contents WHERE path = '/etc/passwd'",
    "SELECT data FROM file_contents WHERE path = '/etc/passwd' AND present = 1 ORDER BY offset",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const inodes = context.keys("inode");
    const paths = context.textKeys("path");
    const write = (file: CachedFile): boolean => {
      const facts = factsOfInode(kernel, file.at);
      if (!isWantedNumber(inodes, facts.number)) return true;
      const path = out.path && pathOfInode(kernel, file, budget)?.bytes;
      if (!isWanted(paths, path)) return true;
      const size = facts.size ?? 0;
      /** @param page where it begins in the file, counted in pages: bytes may be more than a number holds */
      const row = (page: number, length: Integer, data: Uint8Array | undefined): boolean => {
        out.path?.pushOr(path, CELL.notApplicable);
        out.inode?.pushOr(facts.number, CELL.unreadable);
        if (facts.device === undefined) out.device?.absent(CELL.unreadable);
        else out.device?.push(formatDevice(facts.device));
        out.offset?.pushOr(product(page, PAGE_SIZE), CELL.unreadable);
        out.length?.pushOr(length, CELL.unreadable);
        out.present?.push(data === undefined ? 0 : 1);
        out.data?.pushOr(data, CELL.notApplicable);
        return context.row();
      };
      /** Pages. */
      let done = 0;
      let more = true;
      /** Pages that follow one another and have not made a row yet, and their bytes. */
      let pending: Uint8Array[] = [];
      let held = 0;
      const flush = () => {
        if (held > 0) more &&= row(done - pending.length, held, Buffer.concat(pending));
        pending = [];
        held = 0;
      };
      const complete = walkCachedPages(kernel, file.at, budget, (index, gpa, count) => {
        for (let i = 0; more && i < count; i++) {
          const page = index + i;
          const left = difference(size, product(page, PAGE_SIZE));
          if (left <= 0) return true;
          budget.spend();
          const length = left >= PAGE_SIZE ? PAGE_SIZE : Number(left);
          const bytes = kernel.memory.copy(gpa + i * PAGE_SIZE, length);
          if (page > done || bytes === undefined) flush();
          if (more && page > done) more = row(done, product(page - done, PAGE_SIZE), undefined);
          done = page + 1;
          if (bytes === undefined) {
            if (more) more = row(page, length, undefined);
            continue;
          }
          pending.push(bytes);
          held += length;
          if (held >= PIECE) flush();
        }
        return more;
      });
      flush();
      if (!complete) context.incomplete("the pages of a file could not all be followed");
      const rest = difference(size, product(done, PAGE_SIZE));
      if (more && rest > 0) more = row(done, rest, undefined);
      return more;
    };
    const complete =
      paths === undefined
        ? walkCachedFiles(kernel, inodes, budget, context.unit, write)
        : walkCachedFilesAt(kernel, paths, budget, context.unit, write, (text) => context.incomplete(text));
    if (!complete) context.incomplete("the inodes of a file system could not all be followed");
  },
});
