// connections against the files of /proc/net in every network namespace.
import assert from "node:assert/strict";
import type { Guest } from "../../vmi/index.ts";
import { type Row, read, type Subject } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";
import { between, networkTruth } from "./network.ts";
import { type KnownSocket, socketOf, socketsOf } from "./sockets.ts";

const sorted = (all: readonly KnownSocket[]) =>
  all.map(({ inode, core, more }) => `${core} ${more} ${inode}`).toSorted();

/**
 * A connection in TIME_WAIT, one whose handshake never ends (the other end's address is spoofed, so no answer comes),
 * and one that never gets an answer. They last for a minute.
 */
const PASSING = `
import ctypes, os, socket, struct
libc = ctypes.CDLL(None)
def enter(path):
    assert libc.setns(os.open(path, os.O_RDONLY), 0x40000000) == 0
def sum16(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
with socket.create_server(("127.0.0.1", 0)) as server:
    with socket.create_connection(server.getsockname()) as client:
        accepted = server.accept()[0]
        client.shutdown(socket.SHUT_WR)
        accepted.recv(1)
        accepted.close()
        client.recv(1)
enter("/run/netns/right")
source, target, port = "10.77.0.99", "10.77.0.1", 40000 + os.getpid() % 20000
tcp = struct.pack("!HHIIBBHHH", port, 7001, 1, 0, 0x50, 2, 1024, 0, 0)
pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!HH", 6, len(tcp))
tcp = tcp[:16] + struct.pack("!H", sum16(pseudo + tcp)) + tcp[18:]
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0, socket.inet_aton(source), socket.inet_aton(target))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.sendto(ip + tcp, (target, 0))
`;

async function compare(subject: Subject, guest: Guest): Promise<string> {
  await subject.lab.exec(`python3 -I -S - <<'END'\n${PASSING}\nEND`);
  const truth = async () =>
    [...(await networkTruth(subject))].flatMap(([inode, namespace]) => socketsOf(inode, namespace));
  const { truth: known, result: rows } = await between(truth, () => read(guest, "connections"));
  assert.deepEqual(sorted(rows.map(socketOf)), sorted(known));

  const count = (test: (row: Row) => boolean) => rows.filter(test).length;
  for (const state of ["ESTABLISHED", "LISTEN", "SYN_RECV", "FIN_WAIT2", "TIME_WAIT", "CLOSE_WAIT"])
    assert.ok(count((row) => row.protocol === 6 && row.state === state) > 0, state);
  for (const [family, protocol] of [
    [2, 17],
    [10, 17],
    [2, 136],
    [2, 253],
    [10, 58],
    [17, 0x0800],
    [16, 15],
  ])
    assert.ok(count((row) => row.family === family && row.protocol === protocol) > 0, `${family} ${protocol}`);
  // Queues of unix sockets: /proc does not tell them, what was sent does.
  const queued = rows.filter(({ family }) => family === 1).map(({ receive_queue }) => receive_queue);
  for (const bytes of [77, 33, 11, 1]) assert.ok(queued.includes(bytes), `${bytes} bytes`);
  assert.ok(count(({ family, path }) => family === 1 && path === "@lab@abstract") > 0);
  await compareOwners(subject, rows);

  const tcp = read(guest, "connections", { where: [{ column: "protocol", values: ["6"] }] });
  assert.equal(
    tcp.length,
    count(({ protocol }) => protocol === 6),
  );
  return `${rows.length} rows`;
}

/** Who has a socket open is told by the links of /proc/PID/fd. */
async function compareOwners(subject: Subject, rows: readonly Row[]): Promise<void> {
  const { processes } = await subject.lab.truth();
  const owners = new Map<number, Set<string>>();
  for (const { pid, files } of processes.values()) {
    for (const [fd, link] of files) {
      const inode = Number(/^socket:\[(\d+)\]/.exec(link)?.[1] ?? Number.NaN);
      if (!owners.has(inode)) owners.set(inode, new Set());
      owners.get(inode)!.add(`${pid} ${fd}`);
    }
  }
  let owned = 0;
  for (const { inode, pid, fd } of rows) {
    const known = owners.get(inode as number);
    if (known === undefined) assert.equal(pid, null, `inode ${inode}`);
    else assert.ok(known.has(`${pid} ${fd}`), `inode ${inode}: ${pid} ${fd}, not ${[...known].join(", ")}`);
    if (known !== undefined) owned++;
  }
  assert.ok(owned > 40, `${owned} with an owner`);
}

export const comparison: Comparison = { table: "connections", compare };
