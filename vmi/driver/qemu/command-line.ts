/**
 * What the command line of a QEMU process says of its VM.
 * Source: qemu-system-x86_64(1); the keyval syntax of -machine, -chardev and others doubles a comma to mean one.
 */
import { resolve } from "node:path";

export interface QemuCommandLine {
  readonly name: string;
  /** Sockets of its machine protocol monitors, as absolute paths. */
  readonly qmpSockets: readonly string[];
  /** The machine as given, "pc" when it isn't. */
  readonly machine: string;
  /** Bytes of RAM below 4 GiB, where the operator limited them. */
  readonly maxRamBelow4g: number | undefined;
  /** Bytes of RAM at start (-m); QEMU's default is 128 MiB. */
  readonly memoryBytes: number;
}

type Options = Record<string, string>;

/** @param cwd the directory of the process, against which relative socket paths are meant. */
export function parseCommandLine(argv: readonly string[], cwd: string): QemuCommandLine {
  const chardevs = new Map<string, string>();
  const controls: string[] = [];
  const sockets: string[] = [];
  let machine: Options = {};
  let name = "";
  let memoryBytes = 128 * 2 ** 20;
  for (let i = 1; i + 1 < argv.length; i++) {
    const option = argv[i]!.replace(/^--?/, "");
    const value = argv[i + 1]!;
    if (!argv[i]!.startsWith("-")) continue;
    switch (option) {
      case "qmp":
      case "qmp-pretty": {
        const path = unixPath(value);
        if (path) sockets.push(path);
        break;
      }
      case "chardev": {
        const chardev = parseChardev(value);
        if (chardev) chardevs.set(chardev.id, chardev.path);
        break;
      }
      case "mon": {
        const mon = parseOptions(value, "chardev");
        if (mon.mode === "control" && mon.chardev) controls.push(mon.chardev);
        break;
      }
      case "machine":
      case "M":
        machine = { ...machine, ...parseOptions(value, "type") };
        break;
      case "name": {
        const given = parseOptions(value, "guest");
        name = given.guest ?? given.name ?? name;
        break;
      }
      case "m":
        memoryBytes = parseSize(parseOptions(value, "size").size, 2 ** 20) ?? memoryBytes;
        break;
      default:
    }
  }
  for (const id of controls) {
    const path = chardevs.get(id);
    if (path) sockets.push(path);
  }
  return {
    name,
    qmpSockets: [...new Set(sockets.map((path) => resolve(cwd, path)))],
    machine: machine.type ?? "pc",
    maxRamBelow4g: parseSize(machine["max-ram-below-4g"], 1),
    memoryBytes,
  };
}

/** The path of a listening unix socket in the form of -qmp and -serial: unix:PATH,server=on,wait=off. */
function unixPath(value: string): string | undefined {
  const options = parseOptions(value, "address");
  return options.address?.startsWith("unix:") ? options.address.slice(5) : undefined;
}

function parseChardev(value: string): { id: string; path: string } | undefined {
  if (value.startsWith("{")) {
    const json = parseJson(value);
    const path = dig(json, "backend", "data", "addr", "data", "path");
    const id = dig(json, "id");
    return typeof path === "string" && typeof id === "string" ? { id, path } : undefined;
  }
  const options = parseOptions(value, "backend");
  return options.backend === "socket" && options.id && options.path
    ? { id: options.id, path: options.path }
    : undefined;
}

/** key=value,key=value; a first word without key has the key `implied`; {"json": "objects"} too. */
function parseOptions(text: string, implied: string): Options {
  const options: Options = {};
  if (text.startsWith("{")) {
    const json = parseJson(text);
    if (typeof json !== "object" || json === null) return options;
    for (const [key, value] of Object.entries(json)) options[key] = String(value);
    return options;
  }
  let first = true;
  for (const part of text.match(/(?:[^,]|,,)+/g) ?? []) {
    const item = part.replaceAll(",,", ",");
    const equals = item.indexOf("=");
    // An address such as unix:/run/a=b is a first word, not a key.
    if (first && (equals < 0 || /[:/]/.test(item.slice(0, equals)))) options[implied] = item;
    else if (equals < 0) options[item] = "on";
    else options[item.slice(0, equals)] = item.slice(equals + 1);
    first = false;
  }
  return options;
}

const units: Record<string, number> = { "": 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

function parseSize(text: string | undefined, bare: number): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([bkmgt]?)(?:i?b)?$/i.exec(text ?? "");
  if (!match) return undefined;
  const unit = match[2]!.toLowerCase();
  return Math.floor(Number(match[1]) * (unit === "" ? bare : units[unit]!));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function dig(value: unknown, ...keys: string[]): unknown {
  let at = value;
  for (const key of keys) {
    if (typeof at !== "object" || at === null) return undefined;
    at = Reflect.get(at, key);
  }
  return at;
}
