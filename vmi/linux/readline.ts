import type { Budget } from "../budget.ts";
import { type Halves, numberOf } from "../bytes/address.ts";
import { AddressMap } from "../bytes/address-map.ts";
import { hasDynamicSymbol } from "./elf.ts";
import { openedInode } from "./file.ts";
import type { Kernel } from "./kernel.ts";
import { mmStruct, userSpace } from "./mm.ts";
import { Paths } from "./path.ts";
import { readPointer, sameAddress } from "./read.ts";
import { VM, walkVmas } from "./vma.ts";

/** A function that whoever keeps a history has: bash gives it to what it loads, others take it from the library. */
const SYMBOL = "add_history";
const LIBRARY = "readline";

/** Which processes may have GNU readline, in their program or as a library. */
export class ReadlineUsers {
  readonly #kernel: Kernel;
  readonly #budget: Budget;
  readonly #paths: Paths;
  /** By inode: programs that may. */
  readonly #programs = new AddressMap<true>();
  /** By inode: whether its name says so. */
  readonly #libraries = new AddressMap<boolean>();
  /** See hasDynamicSymbol. */
  readonly #searched = new Map<string, boolean>();

  constructor(kernel: Kernel, budget: Budget) {
    this.#kernel = kernel;
    this.#budget = budget;
    this.#paths = new Paths(kernel, budget);
  }

  /** True also where it can't be told: of a program without symbols, or whose symbols are not in memory. */
  mayBe(mmAt: Halves): boolean {
    const kernel = this.#kernel;
    const { areas, complete } = walkVmas(kernel, mmAt, this.#budget);
    const exe = readPointer(kernel.space, mmAt, kernel.layout(mmStruct).exe_file);
    const program = exe && openedInode(kernel, exe);
    if (!complete || program === undefined) return true;
    let base: Halves | undefined;
    for (const { file, flags, start } of areas) {
      const inode = file && openedInode(kernel, file);
      if (inode === undefined) continue;
      if (sameAddress(inode, program)) base ??= start;
      else if (flags & VM.EXEC && this.#isLibrary(inode, file!)) return true;
    }
    return base === undefined || this.#isProgram(program, mmAt, numberOf(base.hi, base.lo));
  }

  #isLibrary(inode: Halves, file: Halves): boolean {
    let known = this.#libraries.get(inode);
    if (known === undefined) {
      const path = this.#paths.ofFile(file);
      known = path === undefined || Buffer.from(path.bytes).includes(LIBRARY);
      this.#libraries.set(inode, known);
    }
    return known;
  }

  /** Where one process's memory says that it is none another's may say otherwise: each is its user's to write. */
  #isProgram(inode: Halves, mmAt: Halves, base: number): boolean {
    if (this.#programs.get(inode)) return true;
    const space = userSpace(this.#kernel, mmAt);
    const found = space === undefined || hasDynamicSymbol(space, base, SYMBOL, this.#searched, this.#budget) !== false;
    if (found) this.#programs.set(inode, true);
    return found;
  }
}
