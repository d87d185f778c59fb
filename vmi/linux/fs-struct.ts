import { struct } from "../symbols/specs.ts";

/** include/linux/fs_struct.h: both are a struct path. */
export const fsStruct = struct("fs_struct", { root: "root", pwd: "pwd" });
