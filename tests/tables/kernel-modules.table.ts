// kernel_modules against /proc/modules, and the digests against the guest's own look at its memory (/proc/kcore).
import assert from "node:assert/strict";
import { compareModules } from "../engine/kernel.ts";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Prints the SHA-256 of spans of the kernel's memory: "ADDRESS LENGTH" a line of standard input, a digest a line. */
const digests = `
import _struct, hashlib, sys
core = open("/proc/kcore", "rb", 0)
header = core.read(64)
offset, = _struct.unpack_from("<Q", header, 32)
size, count = _struct.unpack_from("<HH", header, 54)
core.seek(offset)
table = core.read(size * count)
segments = [_struct.unpack_from("<IIQQQQ", table, i * size) for i in range(count)]
for line in sys.argv[1].split(","):
    address, length = (int(word, 0) for word in line.split(" "))
    for kind, _, place, start, _, long in segments:
        if kind == 1 and start <= address and address + length <= start + long:
            core.seek(place + address - start)
            print(hashlib.sha256(core.read(length)).hexdigest())
            break
    else:
        print("none")
`;

export const comparison: Comparison = {
  table: "kernel_modules",
  async compare(subject, guest) {
    const rows = read(guest, "kernel_modules");
    compareModules(rows, await subject.lab.truth());
    assert.ok(rows.length > 5);
    const spans = rows.map(({ address, text_size }) => `${address} ${text_size}`).join(",");
    const output = await subject.lab.exec(`python3 -I -S -c '${digests}' '${spans}'`);
    const expected = output.trimEnd().split("\n");
    assert.equal(expected.length, rows.length, output);
    rows.forEach(({ name, sha256, text_size }, i) => {
      assert.ok((text_size as number) >= 4096, `${name}: text of ${text_size} bytes`);
      assert.equal(sha256, expected[i], `${name}`);
    });
    return `${rows.length} rows`;
  },
};
