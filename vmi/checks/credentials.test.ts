// The rules, on credentials as they may be; that they are read rightly is tested on real kernels.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Halves } from "../bytes/address.ts";
import type { Check, CheckContext, Finding } from "./check.ts";
import type { SeenCred, SeenProcess } from "./credentials-seen.ts";
import { raisedCredentials } from "./raised-credentials.ts";
import { sharedCredentials } from "./shared-credentials.ts";

const at = (lo: number): Halves => ({ hi: -1, lo });
const NOTHING: Halves = { hi: 0, lo: 0 };
const EVERYTHING: Halves = { hi: 0x1ff, lo: -1 };
const FIRST_NAMESPACE = at(0x1000);
const INIT_CRED = at(0x2000);

function credOf(lo: number, uid: number, changes: Partial<SeenCred> = {}): SeenCred {
  const caps = uid === 0 ? EVERYTHING : NOTHING;
  const ids = { uid, euid: uid, suid: uid, userUid: uid, countedUid: uid };
  const sets = { permitted: caps, effective: caps, ambient: NOTHING };
  return { at: at(lo), ...ids, ...sets, userNamespace: FIRST_NAMESPACE, keyring: 0, ...changes };
}

function processOf(pid: number, cred: SeenCred, changes: Partial<SeenProcess> = {}): SeenProcess {
  const threads = [{ tid: pid, cred, acting: undefined }];
  return { pid, name: `p${pid}`, parent: 1, kernelThread: false, threads, ...changes };
}

const init = processOf(1, credOf(0x100, 0), { parent: 0 });
const kthreadd = processOf(2, credOf(0x200, 0), { parent: 0, kernelThread: true });
const worker = processOf(3, credOf(0x300, 0), { parent: 2, kernelThread: true });

function findings(check: Check, ...processes: readonly SeenProcess[]): Finding[] {
  const found: Finding[] = [];
  const places: Record<string, Halves> = { init_user_ns: FIRST_NAMESPACE, init_cred: INIT_CRED };
  const context = {
    kernel: { optionalPlace: ({ name }: { name: string }) => places[name] },
    shared: () => [init, kthreadd, worker, ...processes],
    report: (finding: Finding) => found.push(finding),
  };
  check.look(context as unknown as CheckContext);
  return found;
}

const about = (found: readonly Finding[]) => found.map(({ pid, severity }) => [pid, severity]);

test("ids that were written over are not those that the kernel counts by", () => {
  const raise = (changes: Partial<SeenCred>) =>
    about(findings(raisedCredentials, processOf(9, credOf(0x900, 0, changes))));
  assert.deepEqual(raise({ userUid: 1000, countedUid: 1000 }), [[9, "critical"]]);
  assert.deepEqual(raise({ countedUid: 1000 }), [[9, "critical"]]);
  // Before 5.14 there is no such count; and what can't be read is no finding.
  assert.deepEqual(raise({ countedUid: undefined }), []);
  assert.deepEqual(raise({ userUid: undefined, countedUid: undefined }), []);
});

test("ucounts of the effective or saved id are no finding: until 5.16 they may be", () => {
  const counted = (changes: Partial<SeenCred>) =>
    about(findings(raisedCredentials, processOf(9, credOf(0x900, 1000, changes))));
  assert.deepEqual(counted({ euid: 33, suid: 0, countedUid: 33 }), []);
  assert.deepEqual(counted({ euid: 33, suid: 0, countedUid: 0 }), []);
  assert.deepEqual(counted({ euid: 33, suid: 0, countedUid: 5 }), [[9, "critical"]]);
  // The user is counted by his real id in every version.
  assert.deepEqual(counted({ euid: 33, suid: 0, userUid: 33, countedUid: 33 }), [[9, "critical"]]);
});

test("a program that runs as its owner has other effective ids, and is no finding", () => {
  const setuid = credOf(0x900, 1000, { euid: 0, suid: 0, permitted: EVERYTHING, effective: EVERYTHING });
  assert.deepEqual(findings(raisedCredentials, processOf(9, setuid)), []);
});

test("capabilities that are not permitted, and all of them in an ordinary user's hands", () => {
  const beyond = credOf(0x900, 1000, { effective: { hi: 0, lo: 0x20_0000 } });
  const [finding] = findings(raisedCredentials, processOf(9, beyond));
  assert.match(finding!.what, /effective capabilities that it is not permitted: sys_admin/);
  const all = { permitted: EVERYTHING, effective: EVERYTHING };
  assert.deepEqual(about(findings(raisedCredentials, processOf(9, credOf(0x900, 1000, all)))), [[9, "high"]]);
  // As root of a user namespace of its own has them.
  const contained = credOf(0x900, 1000, { ...all, userNamespace: at(0x3000) });
  assert.deepEqual(findings(raisedCredentials, processOf(9, contained)), []);
});

test("credentials of prepare_kernel_cred are the kernel's helpers', and what they start", () => {
  const kernelMade = (lo: number) => credOf(lo, 0, { keyring: 1 });
  const helper = processOf(8, kernelMade(0x800), { parent: 3 });
  const below = processOf(9, kernelMade(0x900), { parent: 8 });
  assert.deepEqual(findings(raisedCredentials, helper, below), []);
  assert.deepEqual(about(findings(raisedCredentials, processOf(9, kernelMade(0x900)))), [[9, "high"]]);
});

test("one struct cred in two processes, or the kernel's own in one", () => {
  const thief = (cred: SeenCred) => about(findings(sharedCredentials, processOf(9, cred)));
  assert.deepEqual(thief(credOf(0x900, 0)), []);
  assert.deepEqual(thief(credOf(0x100, 0)), [[9, "critical"]]);
  assert.deepEqual(thief(credOf(0x300, 0)), [[9, "critical"]]);
  assert.deepEqual(thief({ ...credOf(0, 0), at: INIT_CRED }), [[9, "critical"]]);
});

test("threads of one process share theirs, and kernel threads may", () => {
  const cred = credOf(0x900, 0);
  const threads = [
    { tid: 9, cred, acting: undefined },
    { tid: 10, cred: credOf(0xa00, 1000), acting: undefined },
  ];
  assert.deepEqual(findings(sharedCredentials, processOf(9, cred, { threads })), []);
  assert.deepEqual(findings(sharedCredentials, processOf(4, worker.threads[0]!.cred, { kernelThread: true })), []);
});

test("what a task acts with may be a copy, and is no other's", () => {
  const acting = (lo: number) =>
    processOf(9, credOf(0x900, 1000), { threads: [{ tid: 9, cred: credOf(0x900, 1000), acting: at(lo) }] });
  assert.deepEqual(findings(sharedCredentials, acting(0xb00)), []);
  assert.deepEqual(about(findings(sharedCredentials, acting(0x100))), [[9, "high"]]);
});
