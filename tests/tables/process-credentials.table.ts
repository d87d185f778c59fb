// process_credentials against /proc/PID/status and /proc/PID/ns/user.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import { compareByProcess, findByArgument, statusOf } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "process_credentials",
  async compare(subject, guest) {
    const { rows, processes } = await compareByProcess(
      subject,
      guest,
      "process_credentials",
      (process) => ({
        uids: process.uids,
        gids: process.gids,
        groups: statusOf(process, "Groups").split(" ").filter(Boolean).join(" "),
        no_new_privs: Number(statusOf(process, "NoNewPrivs")),
        seccomp: Number(statusOf(process, "Seccomp")),
        user: process.namespaces.get("user"),
      }),
      ([row]) => ({
        uids: [row!.uid, row!.euid, row!.suid, row!.fsuid] as number[],
        gids: [row!.gid, row!.egid, row!.sgid, row!.fsgid] as number[],
        groups: row!.groups as string,
        no_new_privs: row!.no_new_privs as number,
        seccomp: row!.seccomp as number,
        user: `user:[${row!.user_namespace}]`,
      }),
    );
    // /proc does not tell them; one process of the workload has set SECBIT_NOROOT and SECBIT_KEEP_CAPS_LOCKED.
    const secured = read(guest, "process_credentials").filter(({ securebits }) => securebits !== 0);
    assert.deepEqual(
      secured.map(({ pid, securebits }) => [processes.find((process) => process.pid === pid)?.comm, securebits]),
      [["sys-caps", 33]],
    );
    const confined = findByArgument(processes, "confined");
    assert.equal(statusOf(confined, "NoNewPrivs"), "1");
    assert.equal(statusOf(confined, "Seccomp"), "2");
    assert.notEqual(
      findByArgument(processes, "namespaced").namespaces.get("user"),
      findByArgument(processes, "confined").namespaces.get("user"),
    );
    assert.ok(processes.some((process) => statusOf(process, "Groups").split(" ").length > 2));
    return `${rows} rows`;
  },
};
