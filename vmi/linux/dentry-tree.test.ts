import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { gvaOf } from "../bytes/address.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { makeDentry } from "../testing/mini-vfs.ts";
import { descend, inodeOfDentry } from "./dentry-tree.ts";
import { halvesOf } from "./mm.ts";

for (const flavour of ["6.1", "6.13"] as const) {
  const mini = miniGuest({ flavour });
  const { kernel: made } = mini;
  const root = makeDentry(made, "/");
  const etc = makeDentry(made, "etc", root);
  const removed = makeDentry(made, "passwd", etc);
  const passwd = makeDentry(made, "passwd", etc).set("d_inode", 0xffff_8880_0000_4000n);
  makeDentry(made, "passwd-", etc);
  const odd = makeDentry(made, Buffer.from("caf\xe9", "latin1"), etc);
  const cafe = makeDentry(made, Buffer.from("caf\u00e9"), etc);
  const walks = [made.ram.mapped(), made.ram.paged()].map((memory) => (...names: string[]) => {
    const { kernel } = attach(memory);
    const { found, complete } = descend(kernel, halvesOf(root.va), names, new Budget());
    assert.equal(complete, true);
    return found.map(({ hi, lo }) => gvaOf(hi, lo)).sort();
  });

  test(`names below a directory, also of what was removed from it: ${flavour}`, () => {
    for (const walk of walks) {
      assert.deepEqual(walk(), [root.va]);
      assert.deepEqual(walk("etc"), [etc.va]);
      assert.deepEqual(walk("etc", "passwd"), [removed.va, passwd.va].sort());
      assert.deepEqual(walk("etc", "caf\u00e9"), [cafe.va]);
      // As text that is no UTF-8 is shown.
      assert.deepEqual(walk("etc", "caf\ufffd"), [odd.va]);
      for (const names of [["passwd"], ["etc", "pass"], ["etc", "passwd", "x"], ["ETC"]])
        assert.deepEqual(walk(...names), [], names.join("/"));
    }
  });

  test(`the inode of a name, which one that is known to be of nothing lacks: ${flavour}`, () => {
    const { kernel } = attach(made.ram.mapped());
    assert.equal(inodeOfDentry(kernel, halvesOf(removed.va)), undefined);
    const inode = inodeOfDentry(kernel, halvesOf(passwd.va));
    assert.equal(inode && gvaOf(inode.hi, inode.lo), 0xffff_8880_0000_4000n);
  });

  test(`children that lead back to themselves are told, and end: ${flavour}`, () => {
    const { kernel } = attach(made.ram.mapped());
    const own = makeDentry(made, "loop", passwd);
    const node = own.at(flavour === "6.1" ? "d_child" : "d_sib");
    made.writeInteger(node, node, 8);
    const { found, complete } = descend(kernel, halvesOf(passwd.va), ["other"], new Budget(10_000, 100_000));
    assert.deepEqual([found, complete], [[], false]);
  });
}
