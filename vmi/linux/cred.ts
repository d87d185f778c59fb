import { struct } from "../symbols/specs.ts";

/** include/linux/cred.h; a kuid_t is a u32. */
export const cred = struct("cred", { uid: "uid", gid: "gid", suid: "suid", sgid: "sgid", euid: "euid", egid: "egid" });
