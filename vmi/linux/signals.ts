import { struct } from "../symbols/specs.ts";

/** include/linux/sched.h, sched/signal.h, signal_types.h; a sigset_t of 64 bits has signal n at bit n - 1. */
export const taskSignals = struct("task_struct", {
  blocked: "blocked",
  pending: "pending.signal",
  sighand: "sighand",
});
export const signalPending = struct("signal_struct", { shared_pending: "shared_pending.signal", rlim: "rlim" });
export const sighandStruct = struct("sighand_struct", { action: "action" });
export const kSigaction = struct("k_sigaction", { sa_handler: "sa.sa_handler" });

/** _NSIG */
export const SIGNALS = 64;
const NAMES = [
  "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT",
  "CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS",
].flatMap((line) => line.split(" "));
/** The kernel's SIGRTMIN. */
const REALTIME = 32;

const SIGNAL_NAMES = Array.from({ length: SIGNALS }, (_, i) =>
  i + 1 < REALTIME ? `SIG${NAMES[i] ?? i + 1}` : `SIGRT${i + 1 - REALTIME}`,
);

/** Of a signal from 1 to SIGNALS: SIGHUP and the like; SIGRT0 to SIGRT32 for the real-time signals, counted from the kernel's first. */
export function signalName(number: number): string {
  return SIGNAL_NAMES[number - 1]!;
}
