// Every trick of the lab: seen from inside the guest it is in effect when it is on and no longer when it is off, and the guest
// goes on; seen from outside it is found by the checks, alone and with all others, while the guest is idle and while it is busy.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { buildModule } from "../../lab/artefacts/tricks.ts";
import { bootGuest, type Evidence, ensureLab, type LabGuest, type Trick, tricks } from "../../lab/index.ts";
import type { Guest } from "../../vmi/index.ts";
import { type Row, read, Subject } from "../engine/support.ts";
import { alarms, type ExpectedFinding, expectedFindings, missing } from "./expected.ts";

const hex = (address: bigint | undefined) => `0x${address!.toString(16)}`;
const listed = (pid: number | undefined) => `ls /proc | grep -qx ${pid}`;
const unlisted = (pid: number | undefined) => `! ${listed(pid)}`;
const alive = (pid: number | undefined) => `kill -0 ${pid}`;
const look = (...words: (string | number | undefined)[]) => `python3 -I -S /tmp/look.py ${words.join(" ")}`;
/** The module tells that its hook was called. */
const called = (trick: string) => `grep -q "^${trick} .* hits=[1-9]" /proc/lab-tricks`;
const link = (pid: number | undefined, target: string) => `[ "$(readlink /proc/${pid}/exe)" = "${target}" ]`;
const mapped = ({ pid, address }: Evidence) =>
  `grep -q "^${address!.toString(16)}-.* rwxp 00000000 00:00 0" /proc/${pid}/maps`;
const socketIn = (list: string, pid: number | undefined) =>
  `inode=$(ls -l /proc/${pid}/fd | sed -n "s/.*socket:.\\([0-9]*\\).*/\\1/p"); [ "$inode" ] && grep -qw "$inode" /proc/net/${list}`;
const root = ({ pid }: Evidence) => `grep -q "^Uid:.0.0.0.0$" /proc/${pid}/status`;
const loaded = "grep -q ^lab_tricks /proc/modules";

/** For each trick a command of the guest that succeeds when it is in effect. */
const inEffect: Record<string, (evidence: Evidence) => string> = {
  "inject-memory": mapped,
  "inject-process": mapped,
  "deleted-executable": ({ pid, path }) => link(pid, `${path} (deleted)`),
  "memory-executable": ({ pid, path }) => link(pid, `${path} (deleted)`),
  "trace-process": ({ pid, tracer }) => `grep -q "^TracerPid:.${tracer}$" /proc/${pid}/status`,
  "preload-library": ({ pid, path }) =>
    `tr "\\0" "\\n" < /proc/${pid}/environ | grep -q "^LD_PRELOAD=${path}$" && grep -q " ${path}$" /proc/${pid}/maps`,
  "false-name": ({ pid, name, path }) =>
    `[ "$(cat /proc/${pid}/comm)" = ${name} ] && [ "$(tr -d "\\0" < /proc/${pid}/cmdline)" = "[${name}]" ] && ${link(pid, path!)}`,
  "raw-socket": ({ pid }) => socketIn("raw", pid),
  "packet-socket": ({ pid }) => socketIn("packet", pid),
  "promiscuous-interface": (evidence) => `[ $(($(cat /sys/class/net/${evidence.interface}/flags) & 0x100)) != 0 ]`,
  "bpf-kprobe": ({ symbol }) => `grep -q "k  ${symbol}+" /sys/kernel/debug/kprobes/list`,
  "bpf-writer": ({ pid, symbol }) => `cat /proc/${pid}/fdinfo/* | grep -q "^tp_name:.${symbol}$"`,
  "load-module": () => `${loaded} && [ $(($(cat /proc/sys/kernel/tainted) & 0x3000)) != 0 ]`,
  "hide-process": ({ pid }) => `${look("lacks", pid)} && ${listed(pid)} && ${alive(pid)}`,
  "hide-process-number": ({ pid }) => `! ${look("lacks", pid)} && ${unlisted(pid)} && ! ${alive(pid)}`,
  "raise-credentials": (evidence) =>
    `${root(evidence)} && grep -q "^CapEff:.000001ffffffffff$" /proc/${evidence.pid}/status`,
  "share-credentials": (evidence) =>
    `${root(evidence)} && ${look("points", hex(evidence.address), hex(evidence.target))}`,
  "hide-module": () => `! ${loaded} && test -d /sys/module/lab_tricks`,
  "hook-system-call-table": ({ address, target }) => look("points", hex(address), hex(target)),
  "hook-function-entry": ({ pid }) => `! ${alive(pid)} && ${listed(pid)}`,
  "rewrite-function": ({ address }) => `${look("hangup", 33)} && ${look("bytes_at", hex(address), "48b8")}`,
  "hook-ftrace": ({ pid, symbol }) =>
    `${unlisted(pid)} && ${alive(pid)} && grep -q "^${symbol} " /sys/kernel/tracing/enabled_functions`,
  "hook-kprobe": ({ symbol }) => `${called("hook-kprobe")} && grep -q "k  ${symbol}+" /sys/kernel/debug/kprobes/list`,
  "hide-port": ({ port }) =>
    `${look("connects", port)} && ! grep -q "^ *[0-9]*: 0100007F:${port!.toString(16).toUpperCase()} " /proc/net/tcp`,
  "hook-file-operations": ({ pid }) => `${unlisted(pid)} && ${alive(pid)}`,
  "hook-inode-operations": ({ pid }) => `${listed(pid)} && ${alive(pid)} && ! test -e /proc/${pid}/status`,
  "hook-line-discipline": () => `${look("types")} && ${called("hook-line-discipline")}`,
  "hook-interrupt": ({ address, target }) => look("gate", hex(address), hex(target)),
  "hook-keyboard": () => called("hook-keyboard"),
  "hook-netfilter": () => `ping -c 1 127.0.0.1 && ${called("hook-netfilter")}`,
  "kernel-thread": ({ pid }) =>
    `[ "$(cat /proc/${pid}/comm)" = kworker/0:7 ] && ! readlink /proc/${pid}/exe && ${called("kernel-thread")}`,
  "hide-module-everywhere": () => `! ${loaded} && ! test -e /sys/module/lab_tricks && test -e /proc/lab-tricks`,
};

/** What makes a hook be called that only something outside can call. */
const stimulate: Record<string, (guest: LabGuest) => Promise<unknown>> = {
  "hook-keyboard": (guest) => guest.monitor("send-key", { keys: [{ type: "qcode", data: "a" }] }),
};

/** It can't be played with the other one that hides the module, and the module can't be unloaded after it. */
const last = tricks.at(-1)!;
const others = tricks.slice(0, -1);

test("every trick has what shows it from inside", () => {
  assert.deepEqual(
    Object.keys(inEffect),
    tricks.map(({ name }) => name),
  );
});

async function expectEffect(guest: LabGuest, { name }: Trick, evidence: Evidence, expected: boolean): Promise<void> {
  await stimulate[name]?.(guest);
  const { status, output } = await guest.run(inEffect[name]!(evidence));
  assert.equal(status === 0, expected, `${name} ${expected ? "is not" : "is still"} in effect: ${output.toString()}`);
}

/** A trick of the module can be off while its process goes on; a thread would be another. */
const canPause = ({ name }: Trick, evidence: Evidence) =>
  evidence.module !== undefined && ![loadedName, "kernel-thread", last.name].includes(name);
const loadedName = "load-module";

/** Processes and files that come and go, while /run/churn is there. */
const churn = `touch /run/churn; for n in 1 2 3; do (while [ -e /run/churn ]; do mkdir /tmp/churn$n; mkfifo /tmp/churn$n/pipe
ls -lR /proc/self/ > /tmp/churn$n/list; sh -c "sleep 0 | cat" < /dev/null; rm -r /tmp/churn$n; done > /dev/null 2>&1 &); done`;
const BUSY_LOOKS = 3;

const expected = await expectedFindings();

suite("tricks", { concurrency: 2 }, () => {
  for (const kernel of ["6.12", "6.1"] as const) {
    suite(`Linux ${kernel}`, { concurrency: 1 }, () => {
      let subject: Subject;
      let guest: LabGuest;
      let seen: Guest;
      /** Without the kernel's image. */
      let unaided: Guest;
      before(async () => {
        subject = await Subject.boot({ kernel, workload: "quiet", tricks: true, name: `tricks-${kernel}` });
        guest = subject.lab;
        const { image } = (await ensureLab())[kernel];
        seen = await subject.attach({ kernelImage: readFileSync(image) });
        unaided = await subject.attach();
        const program = readFileSync(join(import.meta.dirname, "look.py"), "utf8");
        await guest.exec(`cat > /tmp/look.py <<'END'\n${program}\nEND`);
        await guest.exec("mount -t debugfs none /sys/kernel/debug; mount -t tracefs none /sys/kernel/tracing");
      });
      after(() => subject?.[Symbol.asyncDispose]());

      const findings = () => read(seen, "findings");
      /** What the text's comparison with its own first look finds has to be what its comparison with the image has to. */
      const expectSameText = (wanted: readonly ExpectedFinding[]) => {
        const rows = read(unaided, "findings", { where: [{ column: "check_name", values: ["kernel-text"] }] });
        const ofText = wanted.filter(({ check }) => check === "kernel-text");
        assert.deepEqual(missing(ofText, rows), []);
        assert.equal(alarms(rows).length, ofText.length, alarms(rows).join("\n"));
      };
      /** What checks find while the guest is busy, so many times. */
      async function* whileBusy(times: number): AsyncGenerator<Row[]> {
        await guest.exec(churn);
        try {
          for (let look = 0; look < times; look++) {
            // The guest is to change between the looks.
            await sleep(200);
            yield findings();
          }
        } finally {
          await guest.exec("rm /run/churn");
        }
      }

      test("nothing is found where nothing was done, idle and busy", async () => {
        assert.deepEqual(alarms(findings()), []);
        for await (const rows of whileBusy(2 * BUSY_LOOKS)) {
          assert.deepEqual(alarms(rows), []);
          expectSameText([]);
        }
      });

      test("what the kernel changes of its text when it is traced is no finding, with its image and without", async () => {
        const tracing = {
          "echo 'vfs_*' > set_ftrace_filter; echo function > current_tracer": "echo > set_ftrace_filter",
          "echo vfs_read > set_graph_function; echo function_graph > current_tracer": "echo > set_graph_function",
          // Behind the tracer's nop, which is at the beginning or behind ENDBR: a breakpoint, or a jump.
          "for at in 9 5; do echo p:cloudvmi vfs_write+$at > kprobe_events && break; done; echo 1 > events/kprobes/enable":
            "echo 0 > events/kprobes/enable; echo > kprobe_events",
          "echo 1 > events/sched/enable": "echo 0 > events/sched/enable",
        };
        const ofText = () => read(seen, "findings", { where: [{ column: "check_name", values: ["kernel-text"] }] });
        for (const [on, off] of Object.entries(tracing)) {
          for (const command of [on, `echo nop > current_tracer; ${off}`]) {
            await guest.exec(`cd /sys/kernel/tracing; ${command}`);
            assert.deepEqual(alarms(ofText()), [], command);
            expectSameText([]);
          }
        }
      });

      const evidenceOf = new Map<Trick, Evidence>();
      /** Starts a trick and looks for it, then takes it back where that leaves what it is about: to start it anew costs a second. */
      async function alone(trick: Trick): Promise<void> {
        const evidence = await trick.start(guest);
        evidenceOf.set(trick, evidence);
        await expectEffect(guest, trick, evidence, true);
        const wanted = expected.get(trick.name)!;
        assert.notEqual(wanted.length, 0, "no check is said to find it");
        assert.deepEqual(missing(wanted, findings()), []);
        expectSameText(wanted);
        if (!canPause(trick, evidence)) return;
        await guest.exec(`echo "-${trick.name}" > /proc/lab-tricks`);
        await expectEffect(guest, trick, evidence, false);
        expectSameText([]);
      }
      async function stop(trick: Trick): Promise<void> {
        await trick.stop(guest);
        await expectEffect(guest, trick, evidenceOf.get(trick)!, false);
      }

      for (const trick of others) test(trick.name, () => alone(trick));

      test("all together, idle and busy, and off one after the other", async () => {
        for (const [trick, evidence] of evidenceOf) {
          if (canPause(trick, evidence)) {
            await guest.exec(`echo "${trick.name} ${evidence.port ?? evidence.pid ?? 0}" > /proc/lab-tricks`);
          }
        }
        for (const [trick, evidence] of evidenceOf) {
          // With the module hidden it is not in the list.
          if (trick.name !== loadedName) await expectEffect(guest, trick, evidence, true);
        }
        const wanted = others.flatMap(({ name }) => expected.get(name)!);
        assert.deepEqual(missing(wanted, findings()), []);
        expectSameText(wanted);
        for await (const rows of whileBusy(BUSY_LOOKS)) assert.deepEqual(missing(wanted, rows), []);
        for (const trick of [...others].reverse()) await stop(trick);
      });

      test(last.name, async () => {
        await alone(last);
        await stop(last);
      });

      test("the guest has taken no harm", async () => {
        // With what follows, which tells what it is about.
        const complaints = await guest.exec("dmesg | grep -E -A 12 'BUG:|WARNING:|Oops|Call Trace' || true");
        assert.equal(complaints, "");
        assert.equal(await guest.exec("cat /proc/sys/kernel/random/boot_id"), `${(await guest.truth()).bootId}\n`);
      });
    });
  }
});

test("the module refuses to load in a guest without the mark", async () => {
  await using guest = await bootGuest({ kernel: "6.12", workload: "quiet" });
  const release = (await guest.exec("uname -r")).trim();
  const module = readFileSync(
    await buildModule(
      release,
      async () => {},
      () => {},
    ),
  );
  for (let at = 0; at < module.length; at += 60_000) {
    const part = module.subarray(at, at + 60_000).toString("base64");
    await guest.exec(`echo ${part} | base64 -d >> /tmp/lab_tricks.ko`);
  }
  await assert.rejects(guest.exec("insmod /tmp/lab_tricks.ko"), /not permitted/);
  assert.match(await guest.exec("dmesg"), /lab_tricks: refused: this is no guest of the lab/);
  await assert.rejects(guest.exec("test -e /proc/lab-tricks"));
});
