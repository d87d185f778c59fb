import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { describe, test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import { failure, testCertificate, until } from "../wire/testing.ts";
import { type Absent, connect, type GuestHandle, type MemoryPiece, type Row } from "./index.ts";
import { type FakeService, startFakeService } from "./testing.ts";

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

for (const protocol of ["session", "connect"] as const) {
  describe(`over ${protocol}`, () => {
    /** Runs with a service, and the handle of its VM. */
    async function withGuest(
      run: (guest: GuestHandle, service: FakeService) => Promise<void>,
      replaced: Parameters<typeof startFakeService>[2] = {},
    ): Promise<void> {
      await using service = await startFakeService(protocol, testCertificate, replaced);
      await using cloud = connect({ ...service, token: "secret", protocol });
      await run(await cloud.vm("web1"), service);
    }

    test("the service: account, health, VMs", async () => {
      await using service = await startFakeService(protocol, testCertificate);
      await using cloud = connect({ ...service, token: "secret", protocol });
      assert.equal((await cloud.whoAmI()).user, "alice");
      assert.equal((await cloud.health()).ready, true);
      assert.deepEqual(
        (await cloud.vms()).map(({ name }) => name),
        ["web1"],
      );
      assert.deepEqual(await cloud.vms({ project: "other" }), []);
      assert.equal((await cloud.vm("u-1")).id.incarnation, "i-1");
      assert.deepEqual(await failure(cloud.vm("db1")), [Code.NotFound, "no such VM"]);
      assert.equal((await failure(cloud.admin.listUsers({})))[0], Code.Unimplemented);
    });

    test("a wrong token is Unauthenticated", async () => {
      await using service = await startFakeService(protocol, testCertificate);
      await using cloud = connect({ ...service, token: "wrong", protocol });
      assert.deepEqual(await failure(cloud.whoAmI()), [Code.Unauthenticated, "unknown token"]);
    });

    test("tables: rows, header and summary", async () => {
      await withGuest(async (guest) => {
        assert.equal((await guest.tables())[0]?.columns[1]?.name, "name");
        const reading = guest.table("processes", { columns: ["pid", "name"], limit: 250 });
        assert.deepEqual(
          (await reading.header()).map(({ name }) => name),
          ["pid", "name"],
        );
        const rows = await reading.all();
        assert.deepEqual(
          [rows.length, rows[0], rows[1], rows[249]],
          [250, { pid: 1, name: "p1" }, { pid: 2, name: null }, { pid: 250, name: "p250" }],
        );
        assert.equal((await reading.summary).rows, 250n);
        await assert.rejects(reading.all(), /have been read already/);
        const odd: Row[] = await collect(guest.table("processes", { where: { uid: 1 }, limit: 10 }));
        assert.deepEqual(
          odd.map(({ pid }) => pid),
          [1, 3, 5, 7, 9],
        );
        const both = guest.table("processes", { where: { uid: [0, "1"] }, limit: 10 });
        assert.equal((await both.all()).length, 10);
      });
    });

    test("tables: an error reaches whoever looks", async () => {
      await withGuest(async (guest) => {
        const reading = guest.table("nope");
        assert.deepEqual(await failure(reading.all()), [Code.InvalidArgument, "no table nope"]);
        assert.equal((await failure(reading.summary))[0], Code.InvalidArgument);
        assert.equal((await failure(guest.table("nope").header()))[0], Code.InvalidArgument);
        const controller = new AbortController();
        controller.abort();
        const aborted = guest.table("processes", { signal: controller.signal });
        assert.equal((await failure(aborted.all()))[0], Code.Canceled);
      });
    });

    test("tables: answers that end early, run over the limit or are cut short are refused", async () => {
      const header = [{ name: "pid", type: 1 }];
      const answers: [string, object[], RegExp][] = [
        ["no summary", [{ header, rows: 1, columns: [{ integers: [1n] }] }], /without its summary/],
        ["nothing at all", [], /without its summary/],
        [
          "over the limit",
          [{ header, rows: 9, columns: [{ integers: Array.from({ length: 9 }, () => 1n) }] }],
          /more rows than the limit/,
        ],
        ["more after the summary", [{ header, summary: {} }, { rows: 0 }], /more came after the summary/],
        ["too few cells", [{ header, rows: 5, columns: [{ integers: [1n] }] }], /does not hold 5 rows/],
      ];
      for (const [name, messages, reason] of answers) {
        const lie = async function* () {
          yield* messages;
        };
        await withGuest(
          async (guest) => {
            const [code, text] = await failure(guest.table("processes", { limit: 5 }).all());
            assert.equal(code, Code.DataLoss, name);
            assert.match(text, reason);
          },
          { readTable: lie },
        );
      }
    });

    test("memory: reads of any size, batches, and what can't be read", async () => {
      await withGuest(async (guest) => {
        assert.deepEqual(await guest.read("kernel", 0x1010n, 4), Uint8Array.of(0x10, 0x11, 0x12, 0x13));
        const large = await guest.read({ pid: 1 }, 3n, 20 << 20);
        assert.deepEqual([large.length, large[0], large[17 << 20], large.at(-1)], [20 << 20, 3, 3, 2]);
        assert.deepEqual(await failure(guest.read("physical", (128n << 20n) - 2n, 4)), [
          Code.FailedPrecondition,
          "can't read 0x0000000008000000: not RAM",
        ]);
        const [whole, part] = await guest.readBatch([
          { space: "physical", address: 0n, length: 8 },
          { space: "kernel", address: -8n, length: 8, after: { item: 0, offset: 0 } },
        ]);
        assert.deepEqual([whole?.data.length, part?.error, part?.address], [8, "not RAM", 0xfffffffffffffff8n]);
      });
    });

    test("memory: a stream in order, zeros and holes told apart, left early without harm", async () => {
      await withGuest(async (guest, service) => {
        const start = (128n << 20n) - 131_072n;
        const pieces: MemoryPiece[] = await collect(guest.streamMemory({ start, length: 196_608n }));
        const kinds = pieces.map((piece) => ("data" in piece ? "data" : "zeros" in piece ? "zeros" : "absent"));
        assert.deepEqual(kinds, ["zeros", "data", "absent"]);
        assert.deepEqual(
          pieces.map(({ address }) => address),
          [start, start + 65_536n, start + 131_072n],
        );
        for await (const piece of guest.streamMemory()) {
          assert.equal(piece.address, 0n);
          break;
        }
        await until(() => service.streams() === 0, "the stream's end");
      });
    });

    test("memory: pieces out of order or out of range are refused", async () => {
      const lies = [
        [
          { address: 4096n, data: new Uint8Array(8) },
          { address: 0n, zeros: 8n },
        ],
        [{ address: 0n, zeros: 1n << 40n }],
        [{ address: 0n, zeros: 8n, absent: 8n }],
      ];
      for (const lie of lies) {
        await withGuest(
          async (guest) => {
            assert.equal((await failure(collect(guest.streamMemory({ length: 8192n }))))[0], Code.DataLoss);
          },
          {
            async *streamMemory() {
              yield* lie;
            },
          },
        );
      }
    });

    test("a scan: matches as they come, then the summary; left early without harm", async () => {
      await withGuest(async (guest, service) => {
        const rules = [{ name: "r.yar", source: "rule r { condition: true }" }];
        const updates = await collect(guest.scan({ rules, target: "page-cache", limit: 2 }));
        assert.deepEqual(
          updates.flatMap(({ matches }) => matches.map(({ rule, length, address }) => [rule, length, address])),
          [0, 1].map(() => ["r.yar", 3n, 0xffffffff81000000n]),
        );
        assert.equal(updates.at(-1)?.summary?.matches, 2n);
        const [, found] = await collect(guest.scan({ rules, pids: [7] }));
        const place = found?.matches[1]?.place?.place;
        assert.ok(place?.case === "process" && place.value.pid === 7);
        for await (const _ of guest.scan({ rules })) break;
        await until(() => service.streams() === 0, "the scan's end");
      });
      const broken = async function* () {
        yield {};
      };
      await withGuest(
        async (guest) => {
          assert.equal((await failure(collect(guest.scan({ rules: [] }))))[0], Code.DataLoss);
        },
        { scan: broken },
      );
    });

    test("translations, symbols and registers", async () => {
      await withGuest(async (guest) => {
        const [kernel, process] = await guest.translate([
          { space: "kernel", address: 0xffffffff81000000n },
          { space: { pid: 7 }, address: 1n },
        ]);
        assert.deepEqual([kernel?.physical, kernel?.error, process?.error], [0xffffffff81000001n, "kernel", "pid"]);
        const symbols = await guest.symbols({ names: ["init_task"], addresses: [5n] });
        assert.deepEqual(
          symbols.map(({ name, address }) => [name, address]),
          [
            ["init_task", 0n],
            ["at", 5n],
          ],
        );
        const [type] = await guest.types(["pair"]);
        assert.deepEqual([type?.name, type?.kind, type?.size], ["pair", "struct", 8n]);
        const object = await guest.object("pair", 7n);
        assert.deepEqual([object.type.name, object.address, object.members[0]?.value], ["pair", 7n, "7"]);
        assert.equal((await guest.registers())[0]?.registers.rip, 0xffffffff81000000n);
      });
    });

    test("results must be as many as questions", async () => {
      await withGuest(
        async (guest) => {
          const failures: Promise<unknown>[] = [
            guest.translate([]),
            guest.symbols({ names: ["a"] }),
            guest.read("kernel", 0n, 1),
          ];
          failures.push(guest.types(["a"]), guest.object("a", 0n));
          for (const failed of failures) assert.equal((await failure(failed))[0], Code.DataLoss);
        },
        {
          translate: async () => ({ translations: [{}] }),
          lookupSymbols: async () => ({}),
          lookupTypes: async () => ({}),
          readObject: async () => ({}),
          readMemory: async () => ({ results: [{ data: new Uint8Array(2) }] }),
        },
      );
    });

    test("a pause is given back at the end of its block, once", async () => {
      await withGuest(async (guest, { log }) => {
        {
          await using lease = await guest.pause(10);
          assert.deepEqual([lease.lease, lease.expires.getTime()], ["L", 1_800_000_000_000]);
          assert.equal(await lease.resume(), true);
        }
        assert.deepEqual(log, ["pause 10", "resume L"]);
      });
    });

    test("a pause that could not be given back can be tried again, until it has been", async () => {
      let tries = 0;
      const resume = async () => {
        if (++tries === 1) throw new ConnectError("its host is away", Code.Unavailable);
        return { running: true };
      };
      await withGuest(
        async (guest) => {
          await using lease = await guest.pause(10);
          assert.deepEqual(await failure(lease.resume()), [Code.Unavailable, "its host is away"]);
          assert.deepEqual(await Promise.all([lease.resume(), lease.resume()]), [true, true]);
        },
        { resume },
      );
      assert.equal(tries, 2);
    });

    test("a pause that has ended by itself ends its block in peace; another failure is told", async () => {
      for (const code of [Code.NotFound, Code.Unavailable]) {
        const resume = async (): Promise<never> => {
          throw new ConnectError("resume", code);
        };
        await withGuest(
          async (guest) => {
            const lease = await guest.pause(10);
            const disposed = Promise.resolve(lease[Symbol.asyncDispose]());
            if (code === Code.NotFound) await disposed;
            else assert.deepEqual(await failure(disposed), [code, "resume"]);
          },
          { resume },
        );
      }
    });

    test("bad questions are refused without a round trip", async () => {
      await withGuest(async (guest) => {
        const failures = [
          guest.pause(0),
          guest.read("kernel", -1n, 1),
          guest.read("kernel", 0n, -1),
          guest.read("kernel", 0n, 1 << 30),
          guest.read({ pid: 0 }, 0n, 1),
          guest.translate([{ space: "kernel", address: 1n << 64n }]),
          collect(guest.streamMemory({ start: -1n })),
        ];
        for (const failed of failures) assert.equal((await failure(failed))[0], Code.InvalidArgument);
        assert.throws(() => guest.table("processes", { limit: 1.5 }), /not a length/);
      });
    });

    test("a service that isn't there is told by what is wrong", async () => {
      const closed = createServer().listen(0, "127.0.0.1");
      await once(closed, "listening");
      const { port } = closed.address() as AddressInfo;
      closed.close();
      await once(closed, "close");
      await using cloud = connect({ url: `https://127.0.0.1:${port}`, token: "t", protocol });
      assert.deepEqual(await failure(cloud.health()), [
        Code.Unavailable,
        `can't reach 127.0.0.1:${port}: connection refused`,
      ]);
    });

    test("a certificate of an unknown authority is refused, with what to do", async () => {
      await using service = await startFakeService(protocol, testCertificate);
      await using cloud = connect({ url: service.url, token: "secret", protocol });
      const [code, text] = await failure(cloud.whoAmI());
      assert.equal(code, Code.Unavailable);
      assert.match(text, /its certificate is not trusted: give the certificate of its authority \(ca\.pem/);
    });
  });
}

test("a server that does not speak the session protocol, or no TLS, is told apart", async () => {
  const servers: [ReturnType<typeof createServer>, RegExp][] = [
    [createTlsServer(testCertificate), /does not speak cloudvmi\/1: is this a CloudVMI service/],
    [
      createTlsServer({ ...testCertificate, ALPNProtocols: ["h2"] }),
      /does not speak cloudvmi\/1: is this a CloudVMI service/,
    ],
    [createServer((socket) => socket.on("error", () => undefined).end("220 mail\r\n")), /does not speak TLS/],
  ];
  for (const [server, reason] of servers) {
    server.on("tlsClientError", () => undefined).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    await using cloud = connect({ url: `https://127.0.0.1:${port}`, token: "t", ca: testCertificate.cert });
    const [code, text] = await failure(cloud.health());
    assert.equal(code, Code.Unavailable);
    assert.match(text, reason);
    server.close();
  }
});

test("a URL or a token that can't be one is refused at once", () => {
  for (const url of ["", "localhost:7443", "http://localhost:7443", "https://"]) {
    assert.throws(() => connect({ url, token: "t" }), { code: Code.InvalidArgument });
  }
  assert.throws(() => connect({ url: "https://localhost", token: "two words" }), /the token is not one/);
});

test("types: cells are narrowed as the documentation says", () => {
  const row: Row = { a: null, b: { state: "torn" }, c: 1, d: "x", e: 1n << 60n };
  const states = Object.values(row).filter((cell): cell is Absent => typeof cell === "object" && cell !== null);
  assert.deepEqual(states, [{ state: "torn" }]);
});
