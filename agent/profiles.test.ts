import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openProfileStore, openProfileStores } from "./profiles.ts";

const root = mkdtempSync(join(tmpdir(), "cloudvmi-profiles-"));
after(() => rmSync(root, { recursive: true }));

const id = (n: number) => n.toString(16).padStart(40, "0");
const bytes = (n: number) => new Uint8Array(100).fill(n);
function open(name: string) {
  const folder = join(root, name);
  const store = openProfileStore(folder, { count: 3, bytes: 1000, given: 250 });
  /** Makes a profile look as if it had been used `minutes` ago. */
  const age = (n: number, minutes: number) => {
    const time = new Date(Date.now() - minutes * 60_000);
    utimesSync(join(folder, id(n)), time, time);
  };
  return { folder, store, age };
}

test("the hinted kernel's profile comes first, then the last used, within what may be given", () => {
  const { store, age } = open("order");
  for (const n of [1, 2, 3]) {
    assert.equal(store.save(id(n), bytes(n)), true);
    age(n, 10 * n);
  }
  assert.deepEqual(
    store.load(undefined).map((profile) => profile[0]),
    [1, 2],
  );
  assert.deepEqual(
    store.load(id(3)).map((profile) => profile[0]),
    [3, 1],
  );
  store.used(id(2));
  assert.deepEqual(
    store.load(undefined).map((profile) => profile[0]),
    [2, 1],
  );
});

test("the number is bounded: the one unused longest goes", () => {
  const { folder, store, age } = open("count");
  for (const n of [1, 2, 3, 4]) {
    store.save(id(n), bytes(n));
    age(n, 10 * n);
  }
  store.save(id(5), bytes(5));
  assert.deepEqual(readdirSync(folder).sort(), [id(1), id(2), id(5)]);
});

test("an inspector's word does not name files or fill the disk", () => {
  const { folder, store } = open("lies");
  for (const name of ["../escape", "", "a/b", "..", "ABCDEF0123", "0".repeat(65), "0123\x256789"]) {
    assert.equal(store.save(name, bytes(1)), false, name);
    store.used(name);
  }
  assert.equal(store.save(id(1), new Uint8Array(1001)), false);
  assert.equal(store.save(id(1), new Uint8Array(0)), false);
  assert.deepEqual(readdirSync(folder), []);
  assert.deepEqual(readdirSync(root).includes("escape"), false);
});

test("what one owner's inspectors leave is given to nobody else's", () => {
  const storeOf = openProfileStores(join(root, "owners"));
  storeOf("project a").save(id(1), bytes(1));
  assert.deepEqual(storeOf("project b").load(id(1)), []);
  assert.deepEqual(storeOf("VM a").load(undefined), []);
  assert.deepEqual(
    storeOf("project a")
      .load(undefined)
      .map((profile) => profile[0]),
    [1],
  );
});

test("a cache that can't be kept is said once, and keeps nobody from anything", () => {
  const log: string[] = [];
  const folder = join(root, "full");
  const storeOf = openProfileStores(folder, (line) => log.push(line));
  const store = storeOf("project a");
  rmSync(folder, { recursive: true });
  // A file in place of the folder: nothing can be listed, made or written, as root neither.
  writeFileSync(folder, "");
  assert.equal(store.save(id(1), bytes(1)), false);
  assert.deepEqual(store.load(undefined), []);
  assert.equal(storeOf("project b").save(id(1), bytes(1)), false);
  store.used(id(1));
  assert.equal(log.length, 1);
  assert.match(log[0]!, /kernel profiles can't be kept in .*full/);
  assert.doesNotThrow(() => openProfileStores(folder, () => {})("project a"));
});

test("a profile that can't be read is passed over", () => {
  const log: string[] = [];
  const folder = join(root, "unreadable");
  const store = openProfileStore(folder, { count: 3, bytes: 1 << 20, given: 1 << 20 }, (line) => log.push(line));
  store.save(id(1), bytes(1));
  // A folder stands for what another program has made of it.
  mkdirSync(join(folder, id(2)));
  for (let i = 0; i < 100; i++) writeFileSync(join(folder, id(2), `a file with a name of some length ${i}`), "");
  assert.deepEqual(
    store.load(id(2)).map((profile) => profile[0]),
    [1],
  );
  assert.equal(log.length, 1);
});
