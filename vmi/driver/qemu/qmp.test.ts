import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Qmp, QmpError } from "./qmp.ts";

const folder = mkdtempSync(join(tmpdir(), "cloudvmi-qmp-"));
const servers: Server[] = [];
after(() => {
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true });
});

const greeting = '{"QMP": {"version": {}, "capabilities": []}}\r\n';

async function listen(name: string, serve: (socket: Socket) => void): Promise<string> {
  const path = join(folder, name);
  const server = createServer((socket) => {
    socket.on("error", () => {});
    serve(socket);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return path;
}

/** A monitor that answers each command by `answer`. */
function monitor(answer: (command: string, id: number, socket: Socket) => void, hello = greeting) {
  return (socket: Socket) => {
    socket.write(hello);
    socket.on("data", (data) => {
      for (const line of data.toString().trim().split("\n")) {
        const message: { execute: string; id: number } = JSON.parse(line);
        if (message.execute === "qmp_capabilities") socket.write(`{"return": {}, "id": ${message.id}}\r\n`);
        else answer(message.execute, message.id, socket);
      }
    });
  };
}

function kind(expected: QmpError["kind"], text: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof QmpError);
    assert.equal(error.kind, expected);
    assert.match(error.message, text);
    return true;
  };
}

test("answers find their commands in any order, events go to listeners", async () => {
  const held: number[] = [];
  const path = await listen(
    "order",
    monitor((command, id, socket) => {
      if (command === "first") held.push(id);
      else {
        socket.write(`{"event": "STOP", "data": {"x": 1}, "timestamp": {}}\r\n{"return": "second", "id": ${id}}\r\n`);
        socket.write(`{"return": "first", "id": ${held[0]}}\r\n`);
      }
    }),
  );
  using qmp = await Qmp.connect(path);
  const events: string[] = [];
  qmp.onEvent(({ event, data }) => events.push(`${event} ${String(data.x)}`));
  assert.deepEqual(await Promise.all([qmp.execute("first"), qmp.execute("second")]), ["first", "second"]);
  assert.deepEqual(events, ["STOP 1"]);
});

test("a monitor that indents its messages", async () => {
  const path = await listen(
    "pretty",
    monitor(
      (_, id, socket) => socket.write(`{\r\n    "return": {\r\n        "a": 1\r\n    },\r\n    "id": ${id}\r\n}\r\n`),
      '{\r\n    "QMP": {\r\n    }\r\n}\r\n',
    ),
  );
  using qmp = await Qmp.connect(path);
  assert.deepEqual(await qmp.execute("x"), { a: 1 });
});

test("an error of QEMU comes with its text", async () => {
  const path = await listen(
    "error",
    monitor((_, id, socket) =>
      socket.write(`{"error": {"class": "GenericError", "desc": "no such thing"}, "id": ${id}}\r\n`),
    ),
  );
  using qmp = await Qmp.connect(path);
  await assert.rejects(qmp.execute("x"), kind("refused", /refused x: no such thing/));
});

test("a command without answer times out; the connection stays", async () => {
  const path = await listen(
    "slow",
    monitor((command, id, socket) => {
      if (command === "quick") socket.write(`{"return": 1, "id": ${id}}\r\n`);
    }),
  );
  using qmp = await Qmp.connect(path);
  await assert.rejects(qmp.execute("x", undefined, 20), kind("timeout", /did not answer x/));
  assert.equal(await qmp.execute("quick"), 1);
});

test("the end of QEMU rejects what waits and tells why", async () => {
  const path = await listen(
    "end",
    monitor((_, __, socket) => socket.destroy()),
  );
  const qmp = await Qmp.connect(path);
  await assert.rejects(qmp.execute("x"), kind("closed", /closed the monitor/));
  assert.equal((await qmp.closed).kind, "closed");
  await assert.rejects(qmp.execute("y"), kind("closed", /closed/));
});

test("what isn't a free monitor is told apart", async () => {
  writeFileSync(join(folder, "file"), "");
  await assert.rejects(Qmp.connect(join(folder, "file")), kind("unreachable", /nobody listens/));
  await assert.rejects(Qmp.connect(join(folder, "none")), kind("unreachable", /no such socket/));
  await assert.rejects(Qmp.connect(await listen("silent", () => {}), 20), kind("busy", /busy/));
  await assert.rejects(
    Qmp.connect(await listen("ssh", (socket) => socket.write("SSH-2.0-x\r\n"))),
    kind("not-qmp", /not a QMP socket/),
  );
  await assert.rejects(
    Qmp.connect(await listen("json", (socket) => socket.write('{"a": 1}\n'))),
    kind("not-qmp", /not a QMP socket/),
  );
});

test("a message of many lines or of many pieces is held to the same limit as a long one", async () => {
  const endless = (piece: string) =>
    monitor((_, __, socket) => {
      socket.write("{\n");
      // More than the limit, and then an end, so that a client without a limit fails the test rather than the machine.
      for (let sent = 0; sent < 24 << 20; sent += piece.length) socket.write(piece);
      socket.end();
    });
  for (const [name, piece] of Object.entries({ lines: "x\n".repeat(1 << 19), pieces: "x".repeat(1 << 20) })) {
    using qmp = await Qmp.connect(await listen(name, endless(piece)));
    await assert.rejects(qmp.execute("x"), kind("not-qmp", /a message over 8 MiB/));
  }
});

test("an answer as long as a VM of a thousand vCPUs makes it arrives whole", async () => {
  const long = "0123456789abcdef".repeat(7 << 16);
  const path = await listen(
    "long",
    monitor((_, id, socket) => socket.write(`{"return": "${long}", "id": ${id}}\r\n{"event": "STOP", "data": {}}\r\n`)),
  );
  using qmp = await Qmp.connect(path);
  const event = new Promise<string>((resolve) => {
    qmp.onEvent(({ event: name }) => resolve(name));
  });
  assert.equal(await qmp.execute("x"), long);
  assert.equal(await event, "STOP");
});
