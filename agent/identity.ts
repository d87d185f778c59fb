/** What names a VM, for good. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import type { Process } from "./monitor.ts";

const noUuid = "00000000-0000-0000-0000-000000000000";
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/**
 * A VM's UUID. QEMU reports zeros for a VM that was given none: then, or for what is no UUID, one is made of this machine's id and the VM's
 * monitor socket (UUID version 5), so that it stays the same when the VM is started anew in the same place.
 */
export function vmUuid(reported: string, place: string): string {
  if (uuid.test(reported) && reported !== noUuid) return reported.toLowerCase();
  return uuid5(machineId(), `qemu:${place}`);
}

/** The run of a VM: this boot of the host, the process, and when it began. No two runs are ever the same. */
export function incarnationOf({ pid, start }: Process): string {
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").slice(0, 8);
  return `${boot}-${pid}-${start}`;
}

/** RFC 9562, 5.5. @param namespace a UUID. */
export function uuid5(namespace: string, name: string): string {
  const digest = createHash("sha1")
    .update(Buffer.from(namespace.replaceAll("-", ""), "hex"))
    .update(name)
    .digest();
  digest[6] = (digest[6]! & 0x0f) | 0x50;
  digest[8] = (digest[8]! & 0x3f) | 0x80;
  const hex = digest.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join("-");
}

function machineId(): string {
  const file = ["/etc/machine-id", "/var/lib/dbus/machine-id"].find((path) => existsSync(path));
  const id = file ? readFileSync(file, "latin1").trim() : "";
  return /^[0-9a-f]{32}$/.test(id) ? id : "0".repeat(32);
}
