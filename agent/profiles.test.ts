import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, utimesSync } from "node:fs";
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
