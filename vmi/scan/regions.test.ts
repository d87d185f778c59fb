import assert from "node:assert/strict";
import { test } from "node:test";
import { fiveLevel, fourLevel } from "../arch/x86-64.ts";
import { attach, type Guest } from "../guest.ts";
import { type MiniGuest, miniGuest } from "../testing/mini-guest.ts";
import type { Place, RegionQuery } from "./region.ts";

const variants = [
  { flavour: "6.1", mmu: fourLevel, encoding: "percpu" },
  { flavour: "6.13", mmu: fiveLevel, encoding: "base" },
] as const;

/** Where a text is found, in every variant of a guest and both kinds of memory. */
function everywhere(
  check: (find: (query: RegionQuery, text: string) => Found[], mini: MiniGuest, guest: Guest) => void,
) {
  for (const variant of variants) {
    const mini = miniGuest(variant);
    for (const memory of [mini.kernel.ram.mapped(), mini.kernel.ram.paged()]) {
      const guest = attach(memory);
      const find = (query: RegionQuery, text: string) => {
        const notes: string[] = [];
        const found = [...placesOf(guest, query, text, notes)];
        assert.deepEqual(notes, []);
        return found;
      };
      check(find, mini, guest);
    }
  }
}

interface Found {
  readonly address: bigint;
  readonly place: Place;
}

function* placesOf(guest: Guest, query: RegionQuery, text: string, notes: string[]): Generator<Found> {
  for (const { address, bytes, fresh, place } of guest.regions(query, undefined, (note) => notes.push(note))) {
    const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = data.indexOf(text); at >= 0; at = data.indexOf(text, at + 1)) {
      if (fresh[at >>> 12] === 1) yield { address: address + BigInt(at), place: place(address + BigInt(at)) };
    }
  }
}

const latin1 = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString("latin1");

test("processes: by pid, mapping and address; only those that are asked for", () => {
  everywhere((find) => {
    const [found, ...more] = find({ target: "processes" }, "ls -l\0");
    assert.equal(more.length, 0);
    assert.equal(found!.address, 0x5555_0000_0100n);
    assert.ok(found!.place.kind === "process");
    const { pid, name, start, end, permissions, mapping } = found!.place;
    assert.deepEqual([pid, latin1(name), latin1(mapping), permissions], [300, "a-shell", "[heap]", "rw-p"]);
    assert.deepEqual([start, end], [0x5555_0000_0000n, 0x5555_0000_1000n]);
    assert.equal(find({ target: "processes", pids: new Set([300]) }, "ls -l\0").length, 1);
    assert.equal(find({ target: "processes", pids: new Set([1]) }, "ls -l\0").length, 0);
    assert.throws(() => find({ target: "processes", pids: new Set([300, 77]) }, "x"), { kind: "no-such-process" });
  });
});

test("processes: the memory of one whose first thread has ended, and others run", () => {
  everywhere((find, { shell }) => {
    shell.task.setAll({ exit_state: 0x20, mm: 0n });
    assert.equal(find({ target: "processes", pids: new Set([300]) }, "ls -l\0").length, 1);
    shell.task.setAll({ exit_state: 0, mm: shell.mm!.va });
  });
});

test("page cache: by path, inode and offset; a memfd is a deleted file", () => {
  everywhere((find) => {
    const [memfd, ...more] = find({ target: "page-cache" }, "payload");
    assert.equal(more.length, 0);
    assert.ok(memfd!.place.kind === "file");
    assert.deepEqual(
      [latin1(memfd!.place.path), memfd!.place.inode, memfd!.place.deleted],
      ["/memfd:payload", 14, true],
    );
    const logs = find({ target: "page-cache" }, "logged\n");
    assert.ok(logs.length > 1);
    for (const { place, address } of logs) {
      assert.ok(place.kind === "file");
      assert.equal(address, 0n);
      assert.equal(latin1(place.path), `/var/log/${place.inode}.log`);
      assert.equal(place.deleted, false);
    }
  });
});

test("kernel: its image by symbol, and what is behind it", () => {
  everywhere((find) => {
    const found = find({ target: "kernel" }, "Linux version").map(({ place }) => place);
    assert.ok(found.length > 0);
    assert.ok(found.every(({ kind }) => kind === "kernel"));
    assert.ok(
      found.some((place) => place.kind === "kernel" && place.area === "image" && place.symbol === "linux_banner"),
    );
  });
});

test("physical: every byte of RAM by its address", () => {
  everywhere((find, { kernel }) => {
    for (const { address } of find({ target: "physical" }, "ls -l\0")) {
      assert.equal(kernel.ram.bytes.subarray(Number(address)).subarray(0, 5).toString(), "108,115,32,45,108");
    }
    assert.equal(find({ target: "physical" }, "ls -l\0").length, 1);
  });
});

test("page cache: what is no longer the file's when it has been copied is not told, and that is said", () => {
  const mini = miniGuest();
  const notes: string[] = [];
  const addresses: bigint[] = [];
  const regions = attach(mini.kernel.ram.mapped()).regions({ target: "page-cache" }, undefined, (note) =>
    notes.push(note),
  );
  for (const { address, place } of regions) {
    const of = place(address);
    if (of.kind !== "file" || of.inode !== 13) continue;
    addresses.push(address);
    mini.files.inode.set("i_ino", 99);
  }
  assert.deepEqual(addresses, [0n]);
  assert.match(notes.join("\n"), /^files gave back memory while it was read[^\n]*$/);
});
