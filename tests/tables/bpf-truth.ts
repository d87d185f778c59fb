// What a guest's own bpf(2) says of its BPF programs, maps and links.
import assert from "node:assert/strict";
import type { Subject } from "../engine/support.ts";

/** An object as BPF_OBJ_GET_INFO_BY_FD describes it; numbers as such, text without its zeros. */
export type BpfInfo = Record<string, string | number>;

export interface BpfTruth {
  readonly programs: BpfInfo[];
  readonly maps: BpfInfo[];
  readonly links: BpfInfo[];
}

const SCRIPT = `
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, data):
    attributes = ctypes.create_string_buffer(data, 144)
    result = libc.syscall(321, command, attributes, 144)
    if result < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return result, attributes.raw
def objects(after, by_id):
    number = 0
    while True:
        try:
            number = struct.unpack_from("<I", bpf(after, struct.pack("<II", number, 0))[1], 4)[0]
        except OSError:
            return
        try:
            yield number, bpf(by_id, struct.pack("<II", number, 0))[0]
        except FileNotFoundError:
            pass
def info(fd, length, given=b""):
    buffer = ctypes.create_string_buffer(given, length)
    bpf(15, struct.pack("<IIQ", fd, length, ctypes.addressof(buffer)))
    return buffer.raw
def text(data):
    return data.split(b"\\0")[0].decode("latin1")
programs = []
for number, fd in objects(11, 13):
    first = info(fd, 232)
    count = struct.unpack_from("<I", first, 52)[0]
    ids = (ctypes.c_uint32 * max(1, count))()
    data = info(fd, 232, bytes(52) + struct.pack("<IQ", count, ctypes.addressof(ids)))
    kind, number, tag, jited, xlated = struct.unpack_from("<II8sII", data)
    loaded, uid = struct.unpack_from("<QI", data, 40)
    programs.append({"type": kind, "id": number, "tag": tag.hex(), "jited_size": jited, "xlated_size": xlated, "load_time": loaded,
        "uid": uid, "maps": ",".join(map(str, ids[:count])), "name": text(data[64:80]), "verified": struct.unpack_from("<I", data, 216)[0]})
    os.close(fd)
maps = []
for number, fd in objects(12, 14):
    data = info(fd, 88)
    kind, number, key, value, entries, flags, name = struct.unpack_from("<6I16s", data)
    with open("/proc/self/fdinfo/%d" % fd) as file:
        lines = dict(line.split(":", 1) for line in file)
    maps.append({"type": kind, "id": number, "key_size": key, "value_size": value, "max_entries": entries, "flags": flags,
        "name": text(name), "frozen": int(lines["frozen"])})
    os.close(fd)
links = []
for number, fd in objects(31, 30):
    name = ctypes.create_string_buffer(128)
    kind = struct.unpack_from("<I", info(fd, 64))[0]
    data = info(fd, 64, bytes(16) + struct.pack("<QI", ctypes.addressof(name), 128) if kind == 1 else b"")
    kind, number, program = struct.unpack_from("<III", data)
    links.append({"type": kind, "id": number, "program_id": program, "target": text(name.raw) if kind == 1 else ""})
    os.close(fd)
held = {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
            if target in ("anon_inode:bpf-prog", "anon_inode:bpf-map", "anon_inode:bpf_link"):
                with open(f"/proc/{pid}/fdinfo/{fd}") as file:
                    lines = dict(line.strip().split(":", 1) for line in file)
                key = target[15:] + lines.get("prog_id" if "prog" in target else "map_id" if "map" in target else "link_id").strip()
                held.setdefault(key, set()).add(int(pid))
    except OSError:
        pass
for kind, rows in ("prog", programs), ("map", maps), ("link", links):
    for row in rows:
        row["pids"] = ",".join(map(str, sorted(held.get(kind + str(row["id"]), ()))))
# The guest has no json; what there is reads the same but for its quotes.
print(str({"programs": programs, "maps": maps, "links": links}).replace("'", '"'))
`;

export async function bpfTruth(subject: Subject): Promise<BpfTruth> {
  const output = await subject.lab.exec(`python3 -I -S - <<'END'\n${SCRIPT}\nEND\n`);
  return JSON.parse(output) as BpfTruth;
}

/** The number that the kernel has for each word of a type that the workload uses. */
export const PROGRAM_TYPES = {
  socket_filter: 1,
  kprobe: 2,
  tracepoint: 5,
  cgroup_skb: 8,
  raw_tracepoint: 17,
  tracing: 26,
  cgroup_device: 15,
};
export const MAP_TYPES = { hash: 1, array: 2, percpu_array: 6 };
export const LINK_TYPES = { raw_tracepoint: 1, tracing: 2, cgroup: 3, perf_event: 7 };

/** The number of a word, for comparing with what the kernel says. */
export function numberOfType(words: Readonly<Record<string, number>>, word: unknown): number {
  const number = words[String(word)] ?? Number(word);
  assert.ok(Number.isInteger(number), `type ${word} is not one that the workload makes`);
  return number;
}
