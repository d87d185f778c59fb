import { type CachedFile, pathOfInode, walkCachedFiles, walkCachedFilesAt } from "../linux/cached-files.ts";
import { FileSystemNames, factsOfInode, formatDevice, kindOf } from "../linux/file.ts";
import { CELL } from "./columns.ts";
import { isWanted, isWantedNumber } from "./keys.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a file of which something is in memory, whether a process has it open or not. */
export const pageCacheFiles = defineTable({
  name: "page_cache_files",
  description: "Files of which pages are in memory: their content can be recovered (file_contents)",
  columns: {
    path: text(
      "Path, by the first mount of its file system; absent when no name of it is in memory. A file of an overlay is here as " +
        "the file of the upper or lower layer that it is, with the path of that one",
      { key: true },
    ),
    inode: integer("Inode", { key: true }),
    device: text("Device of the file system, major:minor, decimal"),
    type: text("File system"),
    kind: text("regular, block, directory, …"),
    size: integer("Size of the file, bytes"),
    cached_pages: integer("Pages of 4 KiB in memory"),
    links: integer("Names that it has; 0 for a file that is deleted but still in use"),
    uid: integer("Owner"),
    address: text("Address of the struct inode"),
  },
  cost: "walk",
  reads: ["super_blocks", "super_block", "inode", "address_space", "dentry", "mount"],
  examples: [
    "SELECT path, size, cached_pages FROM page_cache_files WHERE links = 0",
    "SELECT path FROM page_cache_files WHERE type = 'tmpfs' ORDER BY size DESC LIMIT 10",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const names = new FileSystemNames();
    const wanted = context.keys("inode");
    const paths = context.textKeys("path");
    const write = (file: CachedFile): boolean => {
      const facts = factsOfInode(kernel, file.at);
      if (!isWantedNumber(wanted, facts.number)) return true;
      const path = out.path && pathOfInode(kernel, file, budget)?.bytes;
      if (!isWanted(paths, path)) return true;
      const kind = out.kind && kindOf(kernel, facts, names);
      const type = out.type && names.of(kernel, file.superBlock);
      out.path?.pushOr(path, CELL.notApplicable);
      out.inode?.pushOr(facts.number, CELL.unreadable);
      if (facts.device === undefined) out.device?.absent(CELL.unreadable);
      else out.device?.push(formatDevice(facts.device));
      if (type === undefined) out.type?.absent(CELL.unreadable);
      else out.type?.push(type);
      if (kind === undefined) out.kind?.absent(CELL.unreadable);
      else out.kind?.push(kind);
      out.size?.pushOr(facts.size, CELL.unreadable);
      out.cached_pages?.pushOr(file.pages, CELL.unreadable);
      out.links?.pushOr(facts.links, CELL.unreadable);
      out.uid?.pushOr(facts.uid, CELL.unreadable);
      out.address?.pushAddress(file.at.hi, file.at.lo);
      return context.row();
    };
    const complete =
      paths === undefined
        ? walkCachedFiles(kernel, wanted, budget, context.unit, write)
        : walkCachedFilesAt(kernel, paths, budget, context.unit, write, (text) => context.incomplete(text));
    if (!complete) context.incomplete("the inodes of a file system could not all be followed");
  },
});
