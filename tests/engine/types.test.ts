// Types of real kernels, and live objects of them, against what the guests say of themselves.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import type { Guest, ObjectAnswer } from "../../vmi/index.ts";
import { read, Subject, textIn } from "./support.ts";

const program = join(import.meta.dirname, "../../cloudvmi");

const valueIn = ({ members }: ObjectAnswer, path: string) => {
  const found = members.find((member) => member.path === path);
  assert.ok(found !== undefined, path);
  return found.value;
};

suite("types", { concurrency: 1 }, () => {
  for (const kernel of ["6.1", "6.12"] as const) {
    suite(`Linux ${kernel}`, { concurrency: 1 }, () => {
      let subject: Subject;
      let guest: Guest;
      before(async () => {
        subject = await Subject.boot({ kernel, workload: "standard", name: `types-${kernel}` });
        guest = await subject.attach();
      });
      after(() => subject?.[Symbol.asyncDispose]());

      test("the idle task is swapper/0", () => {
        const [symbol] = guest.symbols(["init_task"]);
        const idle = guest.typeAt("task_struct", symbol!.address);
        assert.equal(valueIn(idle, "comm"), '"swapper/0"');
        assert.equal(valueIn(idle, "pid"), "0");
        const parent = idle.members.find(({ path }) => path === "parent")!;
        assert.deepEqual([parent.value, parent.symbol], [`0x${symbol!.address.toString(16)}`, "init_task"]);
        assert.equal(idle.members.find(({ path }) => path === "fs")?.symbol, "init_fs");
      });

      test("members are where the engine's own tables find them, and within their structures", () => {
        const layout = guest.type("task_struct");
        const offsets = new Map(layout.members.map(({ path, offset }) => [path, offset]));
        const rows = read(guest, "processes", { columns: ["pid", "name", "task"], limit: 40 });
        assert.ok(rows.length > 20);
        for (const row of rows) {
          const address = BigInt(textIn(row, "task"));
          const [bytes] = guest.read([{ space: "kernel", address: address + BigInt(offsets.get("tgid")!), length: 4 }]);
          assert.equal(Buffer.from(bytes!.bytes).readInt32LE(), row.pid);
          assert.equal(valueIn(guest.typeAt("task_struct", address, { depth: 1 }), "tgid"), `${row.pid}`);
        }
        for (const name of ["task_struct", "mm_struct", "sock", "inode", "module", "net", "sk_buff", "page"]) {
          const type = guest.type(name);
          assert.ok(type.members.length > 5, name);
          for (const { path, offset, size } of type.members) assert.ok(offset + size <= type.size, `${name}.${path}`);
        }
      });

      test("every structure's members follow one another as the kernel's own BTF says", async () => {
        // The guest looks at its own types, with a reader that has nothing in common with the engine's.
        const told = JSON.parse(
          await subject.lab.exec(`python3 -I -S -c '${reader}' list_head task_struct file tcp_sock pid_type`),
        );
        for (const [name, expected] of Object.entries<[string, number, number][]>(told)) {
          const type = guest.type(name);
          const found =
            type.values.length > 0
              ? type.values.map((each) => [each.name, Number(each.value), 0])
              : type.members
                  .filter(({ depth }) => depth === 0)
                  .map((each) => [each.path, each.offset * 8 + each.bitOffset, each.bitSize]);
          assert.deepEqual(found, expected, name);
        }
        assert.equal(Object.keys(told).length, 5);
      });

      test("the command prints both", async () => {
        const type = async (...args: string[]) =>
          (await promisify(execFile)(program, ["local", "type", ...args, "--qmp", subject.lab.qmp])).stdout;
        assert.match(
          await type("list_head"),
          /^struct list_head \{ {2}\/\/ 16 bytes\n +0 {2}struct list_head \*next;\n/,
        );
        assert.match(await type("task_struct", "--at", "init_task"), /\bchar comm\[16\] = "swapper\/0";\n/);
        const object = JSON.parse(await type("uts_namespace", "--at", "init_uts_ns", "--json"));
        const release = object.members.find(({ path }: { path: string }) => path === "name.release");
        assert.equal(release.value, JSON.stringify(guest.kernel.release));
      });
    });
  }
});

/** Members (name, bit, bits) or enumerators of the named types in /sys/kernel/btf/vmlinux: include/uapi/linux/btf.h. */
const reader = `
import struct, sys
d = open("/sys/kernel/btf/vmlinux", "rb").read()
h, t, tl, s = struct.unpack_from("<4xIIII", d)
def text(at):
    at += h + s
    return d[at:d.index(0, at)].decode()
size = {1: 4, 3: 12, 4: -12, 5: -12, 6: -8, 13: -8, 14: 4, 15: -12, 17: 4, 19: -12}
wanted = {}
for name in sys.argv[1:]:
    wanted[d.index(b"\\0" + name.encode() + b"\\0", h + s) + 1 - h - s] = name
out = {}
at = h + t
end = at + tl
while at < end:
    n, info, _ = struct.unpack_from("<III", d, at)
    kind = info >> 24 & 31
    count = info & 65535
    if n in wanted and kind in (4, 5, 6) and wanted[n] not in out:
        rows = []
        for i in range(count):
            if kind == 6:
                a, v = struct.unpack_from("<Ii", d, at + 12 + 8 * i)
                rows.append([text(a), v, 0])
            else:
                a, _, v = struct.unpack_from("<III", d, at + 12 + 12 * i)
                rows.append([text(a), v & 0xffffff, v >> 24] if info >> 31 else [text(a), v, 0])
        out[wanted[n]] = rows
    k = size.get(kind, 0)
    at += 12 + (k if k >= 0 else -k * count)
print(str(out).replace(chr(39), chr(34)))
`;
