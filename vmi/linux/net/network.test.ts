import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../../budget.ts";
import { attach, type Guest } from "../../guest.ts";
import { miniGuest } from "../../testing/mini-guest.ts";
import { rowsOf, type TestRow } from "../../testing/rows.ts";

const flavours = ["6.1", "6.13"] as const;

function each(run: (guest: Guest, mini: ReturnType<typeof miniGuest>, flavour: string) => void): void {
  for (const flavour of flavours) {
    const mini = miniGuest({ flavour });
    const { ram } = mini.kernel;
    for (const memory of [ram.mapped(), ram.paged()]) run(attach(memory), mini, flavour);
  }
}

const rows = (guest: Guest, table: string): TestRow[] => rowsOf(guest.table(table, {}, new Budget()));
const pick = (row: TestRow, ...columns: string[]) =>
  columns.map((column) => {
    const cell = row[column]!;
    return typeof cell === "object" && cell.absent === "notApplicable" ? null : cell;
  });

test("sockets of every family are found in the tables of their protocols", () => {
  each((guest) => {
    const found = rows(guest, "connections");
    const ends = ["local_address", "local_port", "remote_address", "remote_port"];
    const facts = found.map((row) => pick(row, "family", "protocol", "type", "state", ...ends, "inode", "pid", "fd"));
    assert.deepEqual(facts, [
      [2, 6, "stream", "LISTEN", "10.77.0.1", 7001, "0.0.0.0", 0, 701, null, null],
      [2, 6, "stream", "ESTABLISHED", "10.77.0.1", 7001, "10.77.0.2", 40000, 702, 1, 0],
      [10, 17, "dgram", "CLOSE", "fd77::1", 5353, "::", 0, 703, null, null],
      [1, 0, "stream", "ESTABLISHED", null, null, null, null, 704, 1, 1],
      [17, 3, "raw", null, null, null, null, null, 705, null, null],
      [16, 0, "raw", null, null, 4711, null, 0, 706, null, null],
    ]);
    const queues = found.map((row) => pick(row, "send_queue", "receive_queue", "net_namespace", "path"));
    assert.deepEqual(queues, [
      [0, 2, 4026531840, null],
      [7, 100, 4026531840, null],
      [0, 800, 4026531840, null],
      [0, 33, 4026531840, "@mini"],
      [0, 0, 4026531840, null],
      [0, 0, 4026531840, null],
    ]);
  });
});

test("sockets by descriptor, and those that wait for others", () => {
  each((guest) => {
    const open = rows(guest, "process_open_sockets").map((row) => pick(row, "pid", "fd", "socket"));
    assert.deepEqual(open, [
      [1, 0, 702],
      [1, 1, 704],
      [300, 0, 702],
      [300, 1, 704],
    ]);
    const waiting = rows(guest, "listening_ports").map((row) => pick(row, "port", "family", "address"));
    assert.deepEqual(waiting, [
      [7001, 2, "10.77.0.1"],
      [5353, 10, "fd77::1"],
    ]);
  });
});

test("interfaces, addresses, neighbours and routes", () => {
  each((guest) => {
    const [device] = rows(guest, "interface_details");
    const columns = ["interface", "mac", "flags", "ipackets", "obytes", "idrops", "link_state", "kind", "promiscuity"];
    assert.deepEqual(pick(device!, ...columns), ["mini0", "02:77:00:00:00:a1", 0x11043, 7, 900, 1, "up", "mini", 1]);
    const unsupported = { absent: "unsupported" };
    const { last_change, link_speed, pci_slot } = device!;
    assert.deepEqual([last_change, link_speed, pci_slot], [unsupported, unsupported, "0000:00:03.0"]);
    const addresses = rows(guest, "interface_addresses").map((row) =>
      pick(row, "address", "mask", "broadcast", "type"),
    );
    assert.deepEqual(addresses, [
      ["10.77.0.1", "255.255.255.0", "10.77.0.255", "manual"],
      ["fd77::1", "ffff:ffff:ffff:ffff::", null, "auto"],
    ]);
    const neighbours = rows(guest, "arp_cache").map((row) => pick(row, "address", "mac", "interface", "permanent"));
    assert.deepEqual(neighbours, [["10.77.0.2", "02:00:00:00:00:99", "mini0", 1]]);
    const routes = rows(guest, "routes").map((row) =>
      pick(row, "destination", "netmask", "gateway", "mtu", "metric", "hopcount"),
    );
    assert.deepEqual(routes, [
      ["10.77.0.0", 24, "10.77.0.2", 1400, 100, 7],
      ["fd77::", 64, null, 0, 256, 0],
    ]);
  });
});

test("an interface that is in no slot, and whose driver tells no speed", () => {
  each((guest, { network: { device } }) => {
    device.setAll({ "dev.parent": 0, ethtool_ops: 0 });
    const { link_speed, pci_slot } = rows(guest, "interface_details")[0]!;
    const none = { absent: "notApplicable" };
    assert.deepEqual([link_speed, pci_slot], [none, none]);
  });
});

test("a socket of two processes is the first one's, also where only one of them is asked for", () => {
  each((guest) => {
    const of = (...pids: number[]) =>
      rowsOf(guest.table("connections", { where: [{ column: "pid", values: pids.map(String) }] })).map((row) =>
        pick(row, "inode", "pid", "fd"),
      );
    const first = [
      [702, 1, 0],
      [704, 1, 1],
    ];
    assert.deepEqual(of(1), first);
    assert.deepEqual(of(300), []);
    assert.deepEqual(of(300, 1), first);
    const waiting = guest.table("listening_ports", { where: [{ column: "pid", values: ["1"] }] });
    assert.equal(waiting.rows, 0);
  });
});

test("a socket of a family that is not known here has a row by its descriptor, and none otherwise", () => {
  each((guest, { kernel, network: { sockets } }) => {
    const family = sockets.unix.va + BigInt(kernel.types.of.sock_common!.members.get("skc_family")!.offset);
    const facts = () =>
      rows(guest, "process_open_sockets")
        .filter(({ fd, pid }) => fd === 1 && pid === 1)
        .map((row) => pick(row, "family", "type", "socket", "path", "state", "local_address"));
    assert.deepEqual(facts(), [[1, "stream", 704, "@mini", "ESTABLISHED", null]]);
    kernel.writeInteger(family, 40, 2);
    assert.deepEqual(facts(), [[40, "stream", 704, null, null, null]]);
    assert.ok(rows(guest, "connections").every((row) => row.family !== 40));
    for (const none of [0, 64, 0xffff]) {
      kernel.writeInteger(family, none, 2);
      assert.deepEqual(facts(), []);
    }
    kernel.writeInteger(family, 1, 2);
  });
});

test("chains and trees that lead back to themselves end, and are told", () => {
  for (const flavour of flavours) {
    const { kernel, network } = miniGuest({ flavour });
    const { sockets, route6, neighbour } = network;
    const guest = attach(kernel.ram.mapped());
    const incomplete = (table: string) => guest.table(table, {}, new Budget(60_000, 100_000)).incomplete;
    for (const table of ["connections", "routes", "arp_cache"]) assert.equal(incomplete(table), false, table);
    sockets.netlink.set("node.next", sockets.netlink.at("node"));
    assert.equal(incomplete("connections"), true);
    sockets.netlink.set("node.next", 1n);
    assert.equal(incomplete("connections"), false);
    // A socket whose node does not point back is not linked where it was found.
    const node = sockets.udp.va + BigInt(kernel.types.of.sock_common!.members.get("skc_node")!.offset);
    kernel.writeInteger(node + 8n, 0n, 8);
    assert.equal(incomplete("connections"), true);
    route6.set("fib6_next", route6.va);
    assert.equal(incomplete("routes"), true);
    kernel.writeInteger(neighbour.va, neighbour.va, 8);
    assert.equal(incomplete("arp_cache"), true);
    assert.equal(rows(guest, "routes").length, 2);
    assert.equal(rows(guest, "arp_cache").length, 1);
  }
});
