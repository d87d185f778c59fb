// What the tests of the engine share: a guest of the lab with the engine attached to it, and rows to compare.

import assert from "node:assert/strict";
import { bootGuest, type GuestSpec, type LabGuest, textOf } from "../../lab/index.ts";
import { findRam, type OpenedRam, Qmp, readRegisters } from "../../vmi/driver/qemu/index.ts";
import {
  type AttachOptions,
  attach,
  type Guest,
  openMemory,
  type PhysicalMemory,
  type TableAnswer,
  type TableQuery,
  tables,
  type VcpuRegisters,
} from "../../vmi/index.ts";

/** A cell that has no value says why; `null` where none can exist. */
export type Cell = number | bigint | string | null | { readonly absent: "unreadable" | "torn" | "unsupported" };
export type Row = Record<string, Cell>;

const states = ["", "", "unreadable", "torn", "unsupported"] as const;

/** An answer as rows; text without loss, as the lab's truth has it. */
export function rowsOf(answer: TableAnswer): Row[] {
  const rows: Row[] = Array.from({ length: answer.rows }, () => ({}));
  answer.columns.forEach(({ name }, column) => {
    const data = answer.data[column]!;
    rows.forEach((row, i) => {
      const state = data.states?.[i] ?? 0;
      if (state > 1) row[name] = { absent: states[state] as "unreadable" };
      else if (state === 1) row[name] = null;
      else if (data.kind === "integer") row[name] = data.wide?.get(i) ?? data.values[i]!;
      else row[name] = textOf(data.bytes.subarray(i === 0 ? 0 : data.ends[i - 1], data.ends[i]));
    });
  });
  return rows;
}

/** An integer as the engine has it: a number, or a bigint where that is not exact. */
export function exactly(text: string): number | bigint {
  const value = BigInt(text);
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/** A question to every table; one that needs a constraint gets one on its last key, which is a number. */
export const questions: readonly { readonly name: string; readonly query: TableQuery }[] = tables.map(
  ({ name, required }) => {
    const column = required.at(-1);
    return { name, query: column === undefined ? {} : { where: [{ column, values: ["13"] }] } };
  },
);

/** The text of a cell, which must have one. */
export function textIn(row: Row, column: string): string {
  const value = row[column];
  assert.ok(typeof value === "string", `${column}: ${JSON.stringify(value)} is no text`);
  return value;
}

export function read(guest: Guest, table: string, query: TableQuery = {}): Row[] {
  return rowsOf(guest.table(table, query));
}

/** A guest of the lab, its RAM, and a monitor for the truth. */
export class Subject implements AsyncDisposable {
  readonly lab: LabGuest;
  /** QEMU's monitor. */
  readonly qmp: Qmp;
  readonly #opened: { ram: OpenedRam; memory: PhysicalMemory }[] = [];

  private constructor(lab: LabGuest, qmp: Qmp, ram: OpenedRam) {
    this.lab = lab;
    this.qmp = qmp;
    this.#opened.push({ ram, memory: openMemory(ram.layout) });
  }

  get memory(): PhysicalMemory {
    return this.#opened.at(-1)!.memory;
  }

  static async boot(spec: GuestSpec): Promise<Subject> {
    return Subject.of(await bootGuest(spec));
  }

  /** Takes the guest over: it ends with this. */
  static async of(lab: LabGuest): Promise<Subject> {
    try {
      const qmp = await Qmp.connect(lab.groundQmp, 15_000);
      return new Subject(lab, qmp, await findRam(qmp, lab.pid));
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** Looks anew at what there is of RAM: a guest that boots touches more of it. What was opened before stays open. */
  async reopen(): Promise<void> {
    const ram = await findRam(this.qmp, this.lab.pid);
    this.#opened.push({ ram, memory: openMemory(ram.layout) });
  }

  registers(): Promise<VcpuRegisters[]> {
    return readRegisters(this.qmp);
  }

  async attach(options: Pick<AttachOptions, "kernelImage"> = {}): Promise<Guest> {
    return attach(this.memory, { registers: await this.registers(), ...options });
  }

  async pause(): Promise<void> {
    await this.qmp.execute("stop");
  }

  async resume(): Promise<void> {
    await this.qmp.execute("cont");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { ram, memory } of this.#opened) {
      memory[Symbol.dispose]();
      ram[Symbol.dispose]();
    }
    this.qmp.close();
    await this.lab.close();
  }
}

/** Numbers from 0 to 1 that are the same in every run: what failed once fails again. */
export function randomOf(seed: number): () => number {
  let state = seed;
  // mulberry32
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
