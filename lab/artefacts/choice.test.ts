import assert from "node:assert/strict";
import { test } from "node:test";
import { resolveSpec } from "../spec.ts";
import { headerDependencies, kernelPackages, privateSources } from "./apt.ts";
import { moduleDependencies } from "./kernel.ts";

test("kernels are told apart by series and flavour, and ordered by number, not by letters", () => {
  const offered = [
    "linux-image-6.1.0-9-cloud-amd64",
    "linux-image-6.1.0-56-cloud-amd64",
    "linux-image-6.1.0-47-amd64",
    "linux-image-6.1.0-47-amd64-dbg",
    "linux-image-6.1.0-47-rt-amd64-unsigned",
    "linux-image-6.12-amd64",
    "linux-image-6.12.117+deb12-rt-amd64",
    "linux-image-6.12.90+deb12.1-rt-amd64",
    "linux-image-6.12.90+deb12-rt-amd64",
  ];
  assert.deepEqual(kernelPackages(offered, "6.1", "cloud"), offered.slice(0, 2));
  assert.deepEqual(kernelPackages(offered, "6.1", "generic"), [offered[2]]);
  assert.deepEqual(kernelPackages(offered, "6.1", "rt"), []);
  assert.deepEqual(kernelPackages(offered, "6.12", "rt"), [offered[8], offered[7], offered[6]]);
  assert.deepEqual(kernelPackages(offered, "6.12", "generic"), []);
});

test("private package lists are of Debian 12 and signed", () => {
  const text = privateSources({ main: "http://mirror.example/debian", security: "http://mirror.example/security" });
  const lines = text.trim().split("\n");
  assert.equal(lines.length, 3);
  for (const line of lines)
    assert.match(line, /^deb \[signed-by=\S+\] http:\/\/mirror\.example\/\S+ bookworm(-backports|-security)? main$/);
  assert.doesNotMatch(privateSources({ main: "http://mirror.example/debian", security: undefined }), /security/);
});

test("headers come with those that they share, and with the build's programs, but without a compiler or a kernel", () => {
  const shown =
    "Package: linux-headers-6.12.1-cloud-amd64\nDepends: linux-base (>= 4.12~), linux-headers-6.12.1-common (= 6.12.1-1), " +
    "linux-image-6.12.1-cloud-amd64 (= 6.12.1-1) | linux-image-6.12.1-unsigned (= 6.12.1-1), linux-kbuild-6.12.1, gcc-12\n";
  assert.deepEqual(headerDependencies(shown), ["linux-headers-6.12.1-common", "linux-kbuild-6.12.1"]);
});

test("a module names what it needs", () => {
  const code = (text: string) => Buffer.from(`\x7fELF\0license=GPL\0depends=${text}\0name=bridge\0`);
  assert.deepEqual(moduleDependencies(code("stp,virtio-ring")), ["stp", "virtio_ring"]);
  assert.deepEqual(moduleDependencies(code("")), []);
  assert.deepEqual(moduleDependencies(Buffer.from("nothing")), []);
});

test("a spec is filled in, and refused where it makes no sense", () => {
  const spec = resolveSpec({ kernel: "6.12", memoryMiB: undefined, pti: true }, "uuid");
  assert.deepEqual(
    [spec.memoryMiB, spec.ram, spec.name, spec.uuid, spec.pti],
    [512, "memfd", "lab-6.12", "uuid", true],
  );
  assert.equal(resolveSpec({ kernel: "6.1", system: "systemd" }, "").memoryMiB, 1024);
  assert.equal(resolveSpec({ kernel: "6.1", flavour: "rt", release: "first" }, "uuid").name, "lab-6.1-rt-first");
  assert.throws(() => resolveSpec({ kernel: "6.1", name: "a b" }, ""), RangeError);
  assert.throws(() => resolveSpec({ kernel: "6.1", memoryMiB: 100 }, ""), RangeError);
  assert.throws(() => resolveSpec({ kernel: "6.1", extraTasks: -1 }, ""), RangeError);
  assert.throws(() => resolveSpec({ kernel: "6.1", ramFile: "/x" }, ""), /ramFile needs ram "file"/);
  assert.throws(() => resolveSpec({ kernel: "6.1", ram: "file", stateFile: "/x" }, ""), /stateFile needs the ramFile/);
});
