import { formatHalves, type Halves } from "../bytes/address.ts";
import { capabilityNames } from "../linux/cred.ts";
import { sameAddress } from "../linux/read.ts";
import { symbol } from "../symbols/specs.ts";
import { defineCheck } from "./check.ts";
import { credentialsSeen, type SeenCred, type SeenProcess } from "./credentials-seen.ts";

const initUserNs = symbol("?init_user_ns");
/** include/uapi/linux/keyctl.h: what prepare_kernel_cred() puts into jit_keyring, which is 0 in all that begins with process 1. */
const KEY_REQKEY_DEFL_THREAD_KEYRING = 1;
/** Capabilities that every kernel has from 5.9 on (CAP_CHECKPOINT_RESTORE is 40), less those that came last. */
const ALL: Halves = { hi: 0x3f, lo: -1 };

/** What is wrong with credentials. */
interface Wrong {
  readonly kind: string;
  readonly what: string;
  readonly evidence: string;
  readonly expected: string;
  readonly severity: "critical" | "high";
}

export const raisedCredentials = defineCheck({
  name: "raised-credentials",
  severity: "critical",
  cost: "walk",
  compares:
    "The ids and capabilities in each struct cred with what the kernel keeps beside them and changes at the same time: the " +
    "user_struct that the user's processes are counted in has his real id too, and the ucounts (from 5.14) have one of the " +
    "ids; what is effective or ambient is always among what is permitted. Ids that were written over, in place or in a copy " +
    "that was then committed, differ. All capabilities in the hands of an ordinary user, and credentials as the kernel " +
    "makes them for itself (prepare_kernel_cred) outside of the programs that it starts, are found too.",
  misses:
    "An intruder that also writes user and ucounts (or user alone, where the effective or saved id is the old one: until 5.16 " +
    "ucounts have the effective id), or gets his ids by a system call after he got the right to make it, is as root is. A " +
    "daemon is reported that was left behind by a program of the kernel's (modprobe, request-key) which has ended, as is a " +
    "program that sets its default keyring to the thread's; a service that was given all capabilities as an ordinary user; " +
    "and from 5.14 to 5.16 a program that changed its effective and saved ids after its real one.",
  confirm:
    "SELECT * FROM process_credentials and process_capabilities WHERE pid = …, with those of its parent; loginuid in " +
    "/proc/PID of the guest tells who logged in.",
  reads: ["init_task", "task_struct", "cred", "user_struct", "ucounts (from 5.14: 905ae01c4ae2)", "init_user_ns"],
  look: (context) => {
    const processes = context.shared(credentialsSeen);
    const byPid = new Map(processes.map((process) => [process.pid, process]));
    const first = context.kernel.optionalPlace(initUserNs);
    for (const process of processes) {
      if (process.kernelThread) continue;
      const { pid, name } = process;
      for (const { tid, cred } of process.threads) {
        const wrong = wrongIds(cred) ?? wrongSets(cred) ?? unusual(cred, first) ?? kernelMade(cred, process, byPid);
        if (wrong === undefined) continue;
        context.report({
          what: `process ${pid} (${name}) ${wrong.what}`,
          where: `struct cred of process ${pid} (${name})${tid === pid ? "" : `, thread ${tid}`}`,
          evidence: `cred ${formatHalves(cred.at.hi, cred.at.lo)}: ${wrong.evidence}`,
          expected: wrong.expected,
          identity: `${name} ${wrong.kind}`,
          severity: wrong.severity,
          pid,
          address: cred.at,
        });
        break;
      }
    }
  },
});

/**
 * set_user() (kernel/sys.c) follows the real user id, and nothing else changes `user`. set_cred_ucounts() (kernel/cred.c)
 * does so from 5.17 on and in later 5.15 and 5.16 ("ucounts: Base set_cred_ucounts changes on the real user"). Before, it
 * took the effective id of the moment at which `user` changed, and left `ucounts` as it was while that stayed. No member
 * tells which of both a kernel does.
 */
function wrongIds({ uid, euid, suid, userUid, countedUid }: SeenCred): Wrong | undefined {
  if (uid === undefined || userUid === undefined) return undefined;
  if (userUid === uid && (countedUid === undefined || [uid, euid, suid].includes(countedUid))) return undefined;
  const was = userUid === uid ? countedUid : userUid;
  return {
    kind: `uid ${uid} of user ${was}`,
    what: `has user id ${uid}, and the kernel counts it as one of user ${was}`,
    evidence: `uid ${uid}, euid ${euid}, suid ${suid}; user->uid ${userUid}, ucounts->uid ${countedUid ?? "unknown"}`,
    expected: "the real user id in cred.uid and cred.user->uid, and in cred.ucounts->uid too, or another of the ids",
    severity: "critical",
  };
}

function wrongSets({ permitted, effective, ambient }: SeenCred): Wrong | undefined {
  if (permitted === undefined) return undefined;
  for (const [name, set] of [
    ["effective", effective],
    ["ambient", ambient],
  ] as const) {
    if (set === undefined) continue;
    const beyond = { hi: set.hi & ~permitted.hi, lo: set.lo & ~permitted.lo };
    if (beyond.hi === 0 && beyond.lo === 0) continue;
    return {
      kind: `${name} capabilities beyond the permitted ones`,
      what: `has ${name} capabilities that it is not permitted: ${capabilityNames(beyond)}`,
      evidence: `${name} ${formatHalves(set.hi, set.lo)}, permitted ${formatHalves(permitted.hi, permitted.lo)}`,
      expected: "no capability that is not in the permitted set",
      severity: "critical",
    };
  }
  return undefined;
}

/** Root of a user namespace of its own has all capabilities there, which are none outside. */
function unusual(
  { uid, euid, suid, effective, userNamespace }: SeenCred,
  first: Halves | undefined,
): Wrong | undefined {
  if (!uid || !euid || !suid || effective === undefined || userNamespace === undefined) return undefined;
  if (first === undefined || !sameAddress(userNamespace, first)) return undefined;
  if ((effective.hi & ALL.hi) !== ALL.hi || (effective.lo & ALL.lo) !== ALL.lo) return undefined;
  return {
    kind: "all capabilities",
    what: `of user ${uid} has all capabilities`,
    evidence: `uid ${uid}, euid ${euid}, suid ${suid}, effective ${formatHalves(effective.hi, effective.lo)}`,
    expected: "of an ordinary user none, or a few",
    severity: "high",
  };
}

function kernelMade(
  { keyring, uid }: SeenCred,
  process: SeenProcess,
  byPid: ReadonlyMap<number, SeenProcess>,
): Wrong | undefined {
  if (keyring !== KEY_REQKEY_DEFL_THREAD_KEYRING || startedByKernel(process, byPid)) return undefined;
  return {
    kind: "credentials of prepare_kernel_cred",
    what: "has credentials that the kernel makes for itself only",
    evidence: `uid ${uid}, jit_keyring ${keyring} (KEY_REQKEY_DEFL_THREAD_KEYRING), as prepare_kernel_cred() leaves it`,
    expected: "jit_keyring 0, as process 1 has it and all that it started",
    severity: "high",
  };
}

/** call_usermodehelper(): its programs are children of threads of the kernel. */
function startedByKernel(process: SeenProcess, byPid: ReadonlyMap<number, SeenProcess>): boolean {
  let above: SeenProcess | undefined = process;
  // A parent that is not there has ended since, and the process with it or soon.
  for (let steps = 0; above !== undefined && steps < byPid.size; steps++) {
    if (above.pid === 1) return false;
    const parent: SeenProcess | undefined = byPid.get(above.parent);
    if (parent === undefined || parent.kernelThread) return true;
    above = parent;
  }
  return false;
}
