import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { rowsOf } from "../testing/rows.ts";
import { decodeProfile, encodeProfile, sealOf, seals } from "./profile.ts";

const { kernel } = miniGuest();
const memory = kernel.ram.mapped();
const fresh = attach(memory);
const parsed = (): Record<string, unknown> => JSON.parse(Buffer.from(fresh.profile).toString());
const encoded = (value: unknown) => Buffer.from(JSON.stringify(value));

test("a profile survives being written and read", () => {
  const profile = decodeProfile(fresh.profile)!;
  assert.deepEqual(profile, fresh.kernel.profile);
  assert.deepEqual(encodeProfile(profile), fresh.profile);
  assert.equal(profile.buildId, fresh.kernel.buildId);
});

test("a profile spares the search, and answers the same", () => {
  assert.equal(fresh.profileWasCached, false);
  for (const profiles of [[fresh.profile], [encoded({}), fresh.profile, Buffer.from("junk")]]) {
    const again = attach(memory, { profiles });
    assert.equal(again.profileWasCached, true);
    assert.deepEqual(again.profile, fresh.profile);
    assert.deepEqual(rowsOf(again.table("processes")), rowsOf(fresh.table("processes")));
  }
});

test("a profile is for every guest of its kernel build, wherever KASLR put it", () => {
  const other = miniGuest({ clock: 1_800_000_000, kaslr: 0x340_0000n });
  assert.equal(attach(other.kernel.ram.mapped(), { profiles: [fresh.profile] }).profileWasCached, true);
});

test("a profile of another build, of other tables, or for other declarations is not used", () => {
  const wrong: Record<string, unknown>[] = [
    { buildId: "ffff" },
    { seal: sealOf([Buffer.from("other")]) },
    { declarations: "0".repeat(64) },
  ];
  for (const change of wrong) {
    const guest = attach(memory, { profiles: [encoded({ ...parsed(), ...change })] });
    assert.equal(guest.profileWasCached, false, JSON.stringify(change));
    // All but the seal, whose key is another each time.
    assert.deepEqual({ ...guest.kernel.profile, seal: "" }, { ...fresh.kernel.profile, seal: "" });
  }
});

test("a seal is of its tables, byte for byte and each in its place, and no two are the same", () => {
  const tables = [Buffer.from("names"), Buffer.from("tokens"), Buffer.alloc(100_000, 7)];
  const seal = sealOf(tables);
  assert.equal(seals(seal, tables), true);
  assert.notEqual(sealOf(tables), seal);
  const [names, tokens, types] = tables as [Buffer, Buffer, Buffer];
  const flipped = Buffer.from(types);
  flipped[99_999]! ^= 1;
  const moved = [Buffer.from("name"), Buffer.from("stokens"), types];
  for (const others of [[names, tokens, flipped], moved, [tokens, names, types], [names, tokens], []])
    assert.equal(seals(seal, others), false);
  for (const wrong of ["", "zz", seal.slice(2), `${seal}00`, seal.toUpperCase()])
    assert.equal(seals(wrong, tables), false, wrong);
});

test("another guest's kernel that only claims the build id is not read by this one's profile", () => {
  const liar = miniGuest({ flavour: "6.1" });
  const guest = attach(liar.kernel.ram.mapped(), { profiles: [fresh.profile] });
  assert.equal(guest.profileWasCached, false);
  assert.equal(guest.table("kernel_modules").rows, 2);
});

test("a profile whose symbols are elsewhere does not keep a guest from being attached to", () => {
  const profile = decodeProfile(fresh.profile)!;
  const shifted = profile.symbols.map((place) => place.map((value) => value + 1));
  for (const symbols of [shifted, [], profile.symbols.map(() => [0, 0]), profile.symbols.map(() => [-5, 2 ** 40])]) {
    const guest = attach(memory, { profiles: [encoded({ ...parsed(), symbols })] });
    assert.equal(guest.profileWasCached, false);
    assert.equal(guest.table("processes").rows, 3);
  }
});

test("what is no profile is not taken for one", () => {
  const good = parsed();
  assert.notEqual(decodeProfile(encoded(good)), undefined);
  for (const [key, values] of Object.entries({
    buildId: [undefined, 7, null, {}],
    seal: [undefined, 7],
    structs: [undefined, {}, [1], [["1"]], [[1.5]], [[null]], [[2 ** 60]], "x"],
    symbols: [undefined, { length: 1 }, [[[]]]],
    declarations: [undefined, ""],
  })) {
    for (const value of values) {
      assert.equal(decodeProfile(encoded({ ...good, [key]: value })), undefined, `${key}: ${JSON.stringify(value)}`);
    }
  }
  for (const bytes of ["", "null", "[]", "7", "{", '"profile"']) {
    assert.equal(decodeProfile(Buffer.from(bytes)), undefined);
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => decodeProfile(bytes) === undefined));
  fc.assert(fc.property(fc.json(), (text) => decodeProfile(Buffer.from(text)) === undefined));
});
