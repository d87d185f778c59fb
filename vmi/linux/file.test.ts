import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { gvaOf, type Halves } from "../bytes/address.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { Thing } from "../testing/mini-kernel.ts";
import { makeFile, makeMount, makePath } from "../testing/mini-vfs.ts";
import { inodeFacts, inodeOf, openedInode } from "./file.ts";
import { halvesOf } from "./mm.ts";
import { Paths } from "./path.ts";
import { latin1 } from "./read.ts";

const NOACCOUNT = 0x2000_0000;
/** FMODE_BACKING was one of these before and after 6.14. */
const BITS = [0x200_0000, 0x100_0000];

/** A program on an overlay, mapped as the kernel does it: a struct file of the layer below, with what was opened beside. */
function overlay(flavour: "6.1" | "6.13") {
  const { kernel, root } = miniGuest({ flavour });
  const block = () => kernel.make("super_block");
  const [own, below] = [block(), block()].map((of, i) => {
    of.set("s_dev", 30 + i);
    return { of, inode: kernel.make("inode").setAll({ i_ino: 100 + i, i_sb: of.va }) };
  });
  const merged = makeMount(kernel, { mount: root, point: makePath(kernel, root, "/merged") });
  merged.thing.set("mnt.mnt_sb", own!.of.va);
  const opened = makePath(kernel, merged, "/program").set("d_inode", own!.inode.va);
  const layer = makePath(kernel, root, "/layers/1/program").set("d_inode", below!.inode.va);
  const exe = makeFile(kernel, merged, opened).set("f_inode", own!.inode.va);
  const { backing_file, file } = kernel.types.of;
  const at = kernel.allocate((backing_file ?? file)!.size);
  const mapped = new Thing(kernel, file!, at).set("f_inode", below!.inode.va);
  const place = (path: string, mnt: bigint, dentry: Thing) =>
    new Thing(kernel, path === "f_path" ? file! : backing_file!, at).setAll({
      [`${path}.mnt`]: mnt,
      [`${path}.dentry`]: dentry.va,
    });
  return { kernel, root, merged, opened, layer, exe, mapped, place };
}

for (const kind of ["mapped", "paged"] as const) {
  test(`${kind}: what is mapped from an overlay has the path and inode that were opened, and the content below`, () => {
    const { kernel: mini, root, merged, opened, layer, exe, mapped, place } = overlay("6.13");
    place("f_path", root.mnt, layer);
    place("user_path", merged.mnt, opened);
    const { kernel } = attach(mini.ram[kind]());
    const told = (file: Thing) => {
      kernel.dropCaches();
      const at = halvesOf(file.va);
      const address = (found: Halves | undefined) => found && gvaOf(found.hi, found.lo);
      const path = new Paths(kernel, new Budget()).ofFile(at);
      const { number, device } = inodeFacts(kernel, at)!;
      return {
        path: latin1(path!.bytes),
        number,
        device,
        id: address(openedInode(kernel, at)),
        content: address(inodeOf(kernel, at)),
      };
    };
    const asOpened = { path: "/merged/program", number: 100, device: 30, id: mini.readPointer(opened.at("d_inode")) };
    const below = mini.readPointer(layer.at("d_inode"));
    assert.deepEqual(told(exe), { ...asOpened, content: asOpened.id });
    for (const bit of BITS) {
      mapped.set("f_mode", NOACCOUNT | bit);
      assert.deepEqual(told(mapped), { ...asOpened, content: below });
    }
    const itself = { path: "/layers/1/program", number: 101, device: 31, id: below, content: below };
    for (const mode of [0, NOACCOUNT, ...BITS]) {
      mapped.set("f_mode", mode);
      assert.deepEqual(told(mapped), itself, "an ordinary file");
    }
    mapped.set("f_mode", NOACCOUNT | BITS[1]!);
    place("user_path", root.mnt, opened);
    assert.deepEqual(told(mapped), itself, "what is behind it is no path");
    place("user_path", 0n, opened);
    assert.deepEqual(told(mapped), itself, "nor is this");
  });

  test(`${kind}: before backing files, a mapping has the path that was opened and the inode below`, () => {
    const { kernel: mini, merged, opened, layer, exe, mapped, place } = overlay("6.1");
    place("f_path", merged.mnt, opened);
    mapped.set("f_mode", NOACCOUNT | BITS[0]!);
    const { kernel } = attach(mini.ram[kind]());
    const [program, area] = [exe, mapped].map((file) => halvesOf(file.va));
    assert.equal(latin1(new Paths(kernel, new Budget()).ofFile(area!)!.bytes), "/merged/program");
    assert.equal(inodeFacts(kernel, area!)?.number, 101);
    assert.deepEqual(inodeOf(kernel, area!), halvesOf(mini.readPointer(layer.at("d_inode"))));
    assert.deepEqual(openedInode(kernel, area!), openedInode(kernel, program!));
  });
}
