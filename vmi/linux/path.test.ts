import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { attach } from "../guest.ts";
import { makeCgroup, miniGuest } from "../testing/mini-guest.ts";
import type { Thing } from "../testing/mini-kernel.ts";
import { type Mount, makeDentry, makeFile, makeMount, makePath } from "../testing/mini-vfs.ts";
import { cgroupPath } from "./cgroup.ts";
import { halvesOf } from "./mm.ts";
import { Paths } from "./path.ts";

const { kernel: mini, root } = miniGuest();
const { kernel } = attach(mini.ram.mapped());

function pathTo(mount: Mount, dentry: Thing, budget = new Budget()) {
  const found = new Paths(kernel, budget).ofFile(halvesOf(makeFile(mini, mount, dentry).va));
  return found && { path: Buffer.from(found.bytes).toString("latin1"), deleted: found.deleted };
}

const there = (path: string) => ({ path, deleted: false });

test("names from the root of the mount", () => {
  assert.deepEqual(pathTo(root, root.root), there("/"));
  assert.deepEqual(pathTo(root, makePath(mini, root, "/usr/bin/env")), there("/usr/bin/env"));
  const longest = "n".repeat(255);
  assert.deepEqual(pathTo(root, makePath(mini, root, longest)), there(`/${longest}`));
});

test("names are bytes, of any encoding", () => {
  const odd = makeDentry(mini, Uint8Array.of(0xff, 0xfe, 0x20, 0x0a), root.root);
  assert.deepEqual(pathTo(root, odd), there("/\xff\xfe \n"));
});

test("across mounts, one on the root of another too", () => {
  const home = makeMount(mini, { mount: root, point: makePath(mini, root, "/home") });
  const user = makeMount(mini, { mount: home, point: makePath(mini, home, "/user") });
  const over = makeMount(mini, { mount: user, point: user.root });
  assert.deepEqual(pathTo(home, home.root), there("/home"));
  assert.deepEqual(pathTo(user, makePath(mini, user, "/a/b")), there("/home/user/a/b"));
  assert.deepEqual(pathTo(over, over.root), there("/home/user"));
  assert.deepEqual(pathTo(over, makePath(mini, over, "x")), there("/home/user/x"));
});

test("a file that has been removed, from a directory that has not, and the other way round", () => {
  const file = makePath(mini, root, "/tmp/gone").set("d_hash.pprev", 0);
  assert.deepEqual(pathTo(root, file), { path: "/tmp/gone", deleted: true });
  const directory = makePath(mini, root, "/tmp/directory").set("d_hash.pprev", 0);
  assert.deepEqual(pathTo(root, makeDentry(mini, "file", directory)), there("/tmp/directory/file"));
  const unhashedRoot = makeMount(mini, { mount: root, point: makePath(mini, root, "/mnt") });
  unhashedRoot.root.set("d_hash.pprev", 0);
  assert.deepEqual(pathTo(unhashedRoot, unhashedRoot.root), there("/mnt"), "a root is never unlinked: d_unlinked()");
});

test("a memfd has a name without a directory, and counts as deleted", () => {
  const shm = makeMount(mini);
  const memfd = makeDentry(mini, "memfd:payload").set("d_hash.pprev", 0);
  assert.deepEqual(pathTo(shm, memfd), { path: "/memfd:payload", deleted: true });
});

test("a path that leaves its mount has no name", () => {
  const escaped = makeDentry(mini, "inside", makeDentry(mini, "/"));
  assert.equal(pathTo(root, escaped), undefined);
});

test("what can't be read has no path", () => {
  const missing = 0xffff_c900_0000_0000n;
  for (const value of [missing, 1n, 1n << 63n]) {
    const dentry = makePath(mini, root, "/a/b");
    for (const member of ["d_parent", "d_name.name"]) {
      const kept = mini.readPointer(dentry.at(member));
      dentry.set(member, value);
      assert.equal(pathTo(root, dentry), undefined, member);
      dentry.set(member, kept);
    }
    const mount = makeMount(mini);
    mount.thing.set("mnt.mnt_root", value);
    assert.equal(pathTo(mount, makePath(mini, root, "x")), undefined);
    const other = makeMount(mini, { mount: root, point: root.root });
    other.thing.set("mnt_parent", value);
    assert.equal(pathTo(other, other.root), undefined);
    for (const member of ["f_path.mnt", "f_path.dentry"]) {
      const file = makeFile(mini, root, dentry).set(member, value);
      assert.equal(new Paths(kernel, new Budget()).ofFile(halvesOf(file.va)), undefined);
      file.set(member, 0);
      assert.equal(new Paths(kernel, new Budget()).ofFile(halvesOf(file.va)), undefined);
    }
    assert.equal(new Paths(kernel, new Budget()).of(halvesOf(value)), undefined);
  }
  const long = makeDentry(mini, "name", root.root).set("d_name.len", 256);
  assert.equal(pathTo(root, long), undefined, "longer than NAME_MAX");
});

test("directories within themselves, mounts within themselves, and paths over PATH_MAX end", () => {
  const [a, b] = [makeDentry(mini, "a"), makeDentry(mini, "b")];
  a.set("d_parent", b.va);
  b.set("d_parent", a.va);
  assert.equal(pathTo(root, a), undefined);
  const empty = [makeDentry(mini, ""), makeDentry(mini, "")];
  empty[0]!.set("d_parent", empty[1]!.va);
  empty[1]!.set("d_parent", empty[0]!.va);
  assert.equal(pathTo(root, empty[0]!), undefined);
  const [one, other] = [makeMount(mini), makeMount(mini)];
  one.thing.setAll({ mnt_parent: other.thing.va, mnt_mountpoint: other.root.va });
  other.thing.setAll({ mnt_parent: one.thing.va, mnt_mountpoint: one.root.va });
  assert.equal(pathTo(one, one.root), undefined);
  const deep = "/0123456789abcdef".repeat(240);
  assert.deepEqual(pathTo(root, makePath(mini, root, deep)), there(deep));
  assert.equal(pathTo(root, makePath(mini, root, `${deep}/0123456789abcdef`)), undefined);
});

test("a path spends from the budget", () => {
  const [one, other] = [makeMount(mini), makeMount(mini)];
  one.thing.setAll({ mnt_parent: other.thing.va, mnt_mountpoint: other.root.va });
  other.thing.setAll({ mnt_parent: one.thing.va, mnt_mountpoint: one.root.va });
  const spent = { kind: "over-budget" };
  assert.throws(() => pathTo(one, one.root, new Budget(60_000, 1000)), spent);
  const set = makeCgroup(
    mini,
    Array.from({ length: 200 }, () => "deep"),
  );
  const budget = new Budget(60_000, 1000);
  assert.throws(() => {
    for (let i = 0; i < 10; i++) cgroupPath(kernel, halvesOf(set.va), budget);
  }, spent);
});

test("cgroups: the root, some below it, one within itself, one that can't be read", () => {
  const path = (set: Thing) => {
    const found = cgroupPath(kernel, halvesOf(set.va), new Budget());
    return found && Buffer.from(found).toString();
  };
  assert.equal(path(makeCgroup(mini, [])), "/");
  assert.equal(path(makeCgroup(mini, ["user.slice", "user-1000.slice"])), "/user.slice/user-1000.slice");
  const loop = mini.make("kernfs_node").set("name", mini.string("x"));
  loop.set("__parent", loop.va);
  const set = mini.make("css_set").set("dfl_cgrp", mini.make("cgroup").set("kn", loop.va).va);
  assert.equal(path(set), undefined);
  set.set("dfl_cgrp", 0x1000);
  assert.equal(path(set), undefined);
});
