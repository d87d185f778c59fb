import type { Halves } from "../bytes/address.ts";
import { cred, credOwner, credPrivileges, taskCred, ucounts, userStruct } from "../linux/cred.ts";
import type { Kernel } from "../linux/kernel.ts";
import { isNull, latin1, pinU32, plus, readCString, readPointer, readU32, sameAddress } from "../linux/read.ts";
import { PF_KTHREAD, TASK_COMM_LEN, taskStruct } from "../linux/task-struct.ts";
import { readProcesses, walkThreads } from "../linux/tasks.ts";
import type { CheckContext } from "./check.ts";

/** A struct cred as it was when it was read. What is undefined could not be read, or the kernel does not have it. */
export interface SeenCred {
  readonly at: Halves;
  readonly uid: number | undefined;
  readonly euid: number | undefined;
  readonly suid: number | undefined;
  /** Of the user_struct that the processes of its user are counted in. */
  readonly userUid: number | undefined;
  /** Of the ucounts (from 5.14). */
  readonly countedUid: number | undefined;
  readonly permitted: Halves | undefined;
  readonly effective: Halves | undefined;
  readonly ambient: Halves | undefined;
  readonly userNamespace: Halves | undefined;
  /** KEY_REQKEY_DEFL_… */
  readonly keyring: number | undefined;
}

/** A thread, by the credentials that it has. */
export interface SeenThread {
  readonly tid: number;
  /** What it is: real_cred. */
  readonly cred: SeenCred;
  /** What it acts with, where that is another. */
  readonly acting: Halves | undefined;
}

export interface SeenProcess {
  readonly pid: number;
  readonly name: string;
  readonly parent: number;
  readonly kernelThread: boolean;
  /** Those that have other credentials than the ones before them. */
  readonly threads: readonly SeenThread[];
}

/** Whose credentials are where: for CheckContext.shared. */
export function credentialsSeen(context: CheckContext): readonly SeenProcess[] {
  const { kernel, budget } = context;
  const { values, complete, torn } = readProcesses(kernel, budget, (task, pid) => readProcess(context, task, pid));
  if (!complete) context.incomplete("the task list could not be followed to its end");
  if (torn > 0) context.incomplete(`processes kept changing while they were read: ${torn}`);
  return values;
}

function readProcess({ kernel, budget }: CheckContext, task: Halves, pid: number): SeenProcess {
  const { space } = kernel;
  const layout = kernel.layout(taskStruct);
  const acting = kernel.layout(taskCred).cred;
  const list = walkThreads(kernel, task, budget);
  const threads: SeenThread[] = [];
  const known: SeenCred[] = [];
  for (let i = 0; list !== undefined && i < list.count; i++) {
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    budget.spend();
    const real = readPointer(space, at, layout.real_cred);
    const acts = readPointer(space, at, acting);
    const tid = readU32(space, at, layout.pid);
    // A task that has been released has none.
    if (real === undefined || isNull(real) || acts === undefined || tid === undefined) continue;
    const other = isNull(acts) || sameAddress(acts, real) ? undefined : acts;
    let own = known.find((seen) => sameAddress(seen.at, real));
    if (own !== undefined && other === undefined) continue;
    own ??= readCred(kernel, real);
    known.push(own);
    threads.push({ tid, cred: own, acting: other });
  }
  const parent = readPointer(space, task, layout.real_parent);
  return {
    pid,
    name: latin1(readCString(space, plus(task, layout.comm), TASK_COMM_LEN) ?? new Uint8Array(0)),
    parent: (parent && readU32(space, parent, layout.tgid)) ?? 0,
    kernelThread: ((readU32(space, task, layout.flags) ?? 0) & PF_KTHREAD) !== 0,
    threads,
  };
}

/** Credentials that are in use are not changed by the kernel: it gives the task a new structure. */
function readCred(kernel: Kernel, at: Halves): SeenCred {
  const { space } = kernel;
  const ids = kernel.layout(cred);
  const rest = kernel.layout(credPrivileges);
  const owner = kernel.layout(credOwner);
  const user = readPointer(space, at, owner.user);
  const counts = owner.ucounts < 0 ? undefined : readPointer(space, at, owner.ucounts);
  const countsUid = kernel.layout(ucounts).uid;
  const keyring = owner.jit_keyring < 0 ? undefined : readU32(space, at, owner.jit_keyring);
  return {
    at,
    uid: pinU32(space, at, ids.uid),
    euid: pinU32(space, at, ids.euid),
    suid: pinU32(space, at, ids.suid),
    userUid: user && pinU32(space, user, kernel.layout(userStruct).uid),
    countedUid: counts && countsUid >= 0 ? pinU32(space, counts, countsUid) : undefined,
    permitted: readPointer(space, at, rest.cap_permitted),
    effective: readPointer(space, at, rest.cap_effective),
    ambient: readPointer(space, at, rest.cap_ambient),
    userNamespace: readPointer(space, at, rest.user_ns),
    // An unsigned char.
    keyring: keyring === undefined ? undefined : keyring & 0xff,
  };
}
