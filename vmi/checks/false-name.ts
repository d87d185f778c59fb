import { type CheckContext, defineCheck, type Severity } from "./check.ts";
import { memorySeen } from "./memory-seen.ts";
import { baseName, describeProgram, identify, isInstalled, isScratch, type Program, programs } from "./programs.ts";

/** The parent of all threads of the kernel. */
const KTHREADD = 2;
/** What threads of the kernel are called, also where there is none of the name now. A slash is in no name that execve() gives. */
const KERNEL_NAMES =
  /^(kworker|ksoftirqd|migration|cpuhp|idle_inject|irq_work|rcuc|rcub|rcuo[a-z]?|irq|scsi_eh|jbd2|kdmflush|md\d*_.*)\/|^(kthreadd|kswapd\d+|kcompactd\d+|khugepaged|ksmd|kauditd|kdevtmpfs|kblockd|kintegrityd|oom_reaper|rcu_(sched|preempt|gp|par_gp|tasks.*)|pool_workqueue_release|khungtaskd|kthrotld|watchdogd)$/;

/** Programs that are what they are called, and the other names of their executables. */
const WELL_KNOWN: Readonly<Record<string, readonly string[]>> = {
  sshd: ["sshd-session", "sshd-auth"],
  systemd: ["systemd-executor"],
  "systemd-journal": ["systemd-journald"],
  "systemd-udevd": ["udevadm"],
  "systemd-logind": [],
  "systemd-resolve": ["systemd-resolved"],
  "systemd-network": ["systemd-networkd"],
  "systemd-timesyn": ["systemd-timesyncd"],
  "dbus-daemon": [],
  "dbus-broker": [],
  cron: [],
  crond: ["cron"],
  atd: [],
  rsyslogd: [],
  "syslog-ng": [],
  auditd: [],
  agetty: [],
  login: [],
  NetworkManager: [],
  polkitd: [],
  chronyd: [],
  ntpd: [],
  nginx: [],
  apache2: [],
  httpd: [],
  mysqld: ["mariadbd"],
  mariadbd: [],
  postgres: [],
  dockerd: [],
  containerd: [],
  snapd: [],
};
/** What runs what it is given. Only they have reason to be called as another program, when they run a script of that name. */
const INTERPRETERS =
  /^(perl|python|pypy|ruby|php|node|lua|tclsh|expect|nc|ncat|socat|bash|dash|zsh|ksh|sh)[\d.]*(\.(openbsd|traditional))?$/;
/** One program in the place of many. */
const MANY = /^(busybox|toybox|coreutils|systemd-multicall)/;

interface Lie {
  readonly kind: string;
  readonly what: string;
  readonly evidence: string;
  readonly expected: string;
  readonly severity: Severity;
}

export const falseName = defineCheck({
  name: "false-name",
  severity: "high",
  cost: "walk",
  compares:
    "The names that a process gives itself (comm, the first argument) with the executable that the kernel knows it by: one " +
    "that is called as a thread of the kernel ([kworker/0:1], which is how tools show threads of the kernel), or as a " +
    "well-known daemon that it is not. A process with the mark of kernel threads that is no child of kthreadd. And the " +
    "executable itself (mm_struct.exe_file, which prctl can set) with what is mapped.",
  misses:
    "A false name that is nobody's, or that of a program which is not in the list; an executable of a right name among the " +
    "installed ones. A script of the name of a daemon is reported, and a program that unmapped its own file (packers, " +
    "restored checkpoints).",
  confirm:
    "SELECT pid, name, path, cmdline, parent, kernel_thread FROM processes WHERE pid = …, and process_memory_map for what " +
    "is mapped. In the guest, ls -l /proc/PID/exe: threads of the kernel have none.",
  reads: ["init_task", "task_struct.comm, flags and real_parent", "mm_struct.exe_file and arg_start", "vm_area_struct"],
  look: (context) => {
    const memory = new Map(context.shared(memorySeen).map((seen) => [seen.pid, seen]));
    const all = context.shared(programs);
    const kernelNames = new Set([...all.values()].filter(({ kernelThread }) => kernelThread).map(({ name }) => name));
    for (const program of all.values()) {
      const seen = memory.get(program.pid);
      if (!program.kernelThread && !(seen?.started && seen.path === program.path)) continue;
      for (const lie of liesOf(program, kernelNames)) report(context, program, lie);
    }
    for (const { pid, name, path, runsItsExecutable } of memory.values()) {
      if (runsItsExecutable) continue;
      report(
        context,
        { pid, name, path },
        {
          kind: "executable",
          what: `names ${path ?? "a file"} as its executable, and has nothing of it in its memory`,
          evidence: `mm_struct.exe_file is ${path ?? "unreadable"}; no mapping is of that file`,
          expected: "mappings of the executable",
          severity: "medium",
        },
      );
    }
  },
});

function* liesOf(program: Program, kernelNames: ReadonlySet<string>): Generator<Lie> {
  const { pid, name, path, parent, commandLine } = program;
  if (program.kernelThread) {
    if (pid === KTHREADD || parent === KTHREADD || parent === 0) return;
    yield {
      kind: "kernel thread",
      what: "has the mark of a thread of the kernel (PF_KTHREAD), and is no child of kthreadd",
      evidence: `parent ${parent}, executable ${path ?? "none"}`,
      expected: `parent ${KTHREADD}`,
      severity: "critical",
    };
    return;
  }
  // Without one it is ending, or has only begun.
  if (path === undefined) return;
  const own = isInstalled(path) && baseName(path).startsWith(name);
  const called = commandLine?.trim() ?? "";
  const bracketed = /^\[([^\][]+)\]$/.exec(called)?.[1];
  const asThread = !own && (KERNEL_NAMES.test(name) || kernelNames.has(name));
  if (asThread || bracketed !== undefined) {
    const names = [...(asThread ? [`name ${name}`] : []), ...(bracketed === undefined ? [] : [`arguments ${called}`])];
    yield {
      kind: "kernel thread",
      what: `is called as a thread of the kernel (${names.join(", ")}), and runs ${path}`,
      evidence: `name ${name}, arguments ${called || "none"}, executable ${path}, parent ${parent}`,
      expected: "a name of its own",
      severity: "high",
    };
    return;
  }
  const known = Object.hasOwn(WELL_KNOWN, name) ? WELL_KNOWN[name] : undefined;
  const file = baseName(path);
  const genuine = file.startsWith(name) || known?.includes(file) || MANY.test(file);
  const scratch = isScratch(path);
  if (known === undefined || !(scratch || (!genuine && INTERPRETERS.test(file)))) return;
  yield {
    kind: "daemon",
    what: `is called ${name}, and runs ${path}`,
    evidence: `name ${name}, arguments ${called || "none"}, executable ${path}`,
    expected: `the executable of ${name}, where it is installed`,
    severity: scratch ? "high" : "medium",
  };
}

function report(context: CheckContext, program: Pick<Program, "pid" | "name" | "path">, lie: Lie): void {
  context.report({
    what: `process ${program.pid} (${program.name}) ${lie.what}`,
    where: describeProgram(program),
    evidence: lie.evidence,
    expected: lie.expected,
    identity: `${identify(program)} as ${lie.kind}`,
    severity: lie.severity,
    pid: program.pid,
  });
}
