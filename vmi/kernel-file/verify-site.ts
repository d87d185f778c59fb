import { type Site, type SiteKind, STATIC_CALL_TAIL } from "./patch-sites.ts";

/** Text as it is in a guest, beside what it was when it was linked, moved to where it is. Offsets are from the text's start. */
export interface TextPair {
  readonly found: Buffer;
  readonly linked: Buffer;
  /** Lower half of the address where it is, and how far it was moved. */
  readonly start: number;
  readonly moved: number;
  /** Whether code at an address (lower half) is what the kernel may call by changing its text. */
  mayCall(address: number): boolean;
  /** Whether the function tracer's code, or what it or BPF made, is there. */
  isTracer(address: number): boolean;
  /** Bytes of alternatives' instructions, as linked; undefined for what is in no section. */
  linkedBytes(address: number, length: number): Uint8Array | undefined;
  /** Code at an address, outside of the text. */
  codeAt(address: number, length: number): Uint8Array | undefined;
  /** Places of change at an address, as linked. */
  some(address: number, visit: (site: Site) => boolean): boolean;
}

const JMP = 0xe9;
const CALL = 0xe8;
const INT3 = 0xcc;
const RET = 0xc3;
const NOP = 0x90;
/** xor %eax, %eax with three prefixes: a static call of what returns 0 (arch/x86/kernel/static_call.c: xor5rax). */
const XOR5 = Buffer.from([0x2e, 0x2e, 0x2e, 0x31, 0xc0]);
/** What endbr64 becomes (gen_endbr_poison): until 6.13, then; and with what FineIBT has. */
const POISON = ["660f1f00", "0f1f4000", "0f1f40d6"];

/** Whether what is found at a place is what the kernel makes of it. */
export function isExpectedChange(site: Site, text: TextPair): boolean {
  const from = site.at + text.moved - text.start;
  if (from < 0 || from + site.length > text.found.length) return false;
  const found = text.found.subarray(from, from + site.length);
  const linked = text.linked.subarray(from, from + site.length);
  return found.equals(linked) || isMade(site, found, linked, text);
}

/** The same of a place that the kernel changes while it runs: what is there counts, whatever was there before. */
export function isOwnState(site: Site, text: TextPair): boolean {
  const from = site.at + text.moved - text.start;
  if (!CHANGES.has(site.kind) || from < 0 || from + site.length > text.found.length) return true;
  const found = text.found.subarray(from, from + site.length);
  return isMade(site, found, found, text);
}

const CHANGES: ReadonlySet<SiteKind> = new Set(["ftrace", "jump-label", "static-call"]);

function isMade(site: Site, found: Buffer, linked: Buffer, text: TextPair): boolean {
  const address = (site.at + text.moved) >>> 0;
  switch (site.kind) {
    case "ftrace":
      return isNops(found) || (isCallOrJump(found) && text.isTracer(targetOf(found, address)));
    case "jump-label":
      return isNops(found) || jumpsTo(found, address, (site.other + text.moved) >>> 0);
    case "static-call":
      return isStaticCall(found, linked, site.other === STATIC_CALL_TAIL, address, text);
    case "static-trampoline":
      return (
        isStaticCall(found.subarray(0, 5), linked, true, address, text) && found.subarray(5).equals(linked.subarray(5))
      );
    case "alternative":
      return isAlternative(site, found, linked, address, text);
    case "paravirt":
      return isParavirt(found, address, text);
    case "retpoline":
      return isRetpoline(found, linked, address, text);
    case "return":
      return isReturn(found) || (found[0] === JMP && text.mayCall(targetOf(found, address)));
    case "call":
      return found[0] === CALL && text.mayCall(targetOf(found, address));
    case "endbr":
      return POISON.includes(found.toString("hex"));
    case "lock":
      return found[0] === 0xf0 || found[0] === 0x3e;
    case "constant":
      return true;
  }
}

/** False where it hangs on what else the kernel has in its lists now. */
export function isLasting(site: Site, text: TextPair): boolean {
  if (site.kind !== "ftrace" && site.kind !== "static-call" && site.kind !== "static-trampoline") return true;
  const from = site.at + text.moved - text.start;
  const found = text.found.subarray(from, from + site.length);
  const address = (site.at + text.moved) >>> 0;
  const conditional = found.length === 6 && found[0] === 0x0f && !isNops(found);
  if (!conditional && !isCallOrJump(found)) return true;
  const target = conditional ? (address + 6 + found.readInt32LE(2)) >>> 0 : targetOf(found, address);
  return site.kind !== "ftrace" && target >= text.start && target < text.start + text.linked.length;
}

function isCallOrJump(code: Buffer): boolean {
  return code.length >= 5 && (code[0] === CALL || code[0] === JMP);
}

/** Of a call or jump of 32 bits that is the first of the bytes. */
function targetOf(code: Buffer, address: number): number {
  return (address + 5 + code.readInt32LE(1)) >>> 0;
}

function jumpsTo(code: Buffer, address: number, target: number): boolean {
  if (code.length === 2) return code[0] === 0xeb && (address + 2 + code.readInt8(1)) >>> 0 === target;
  return code[0] === JMP && targetOf(code, address) === target;
}

function isReturn(code: Buffer): boolean {
  return code[0] === RET && code.subarray(1).every((byte) => byte === INT3 || byte === NOP);
}

/** arch/x86/kernel/static_call.c: __static_call_transform. */
function isStaticCall(found: Buffer, linked: Buffer, tail: boolean, address: number, text: TextPair): boolean {
  if (found.length === 6) {
    return found[0] === 0x0f && found[1] === linked[1] && text.mayCall((address + 6 + found.readInt32LE(2)) >>> 0);
  }
  if (tail ? isReturn(found) : isNops(found) || found.equals(XOR5)) return true;
  return (found[0] === JMP) === tail && isCallOrJump(found) && text.mayCall(targetOf(found, address));
}

/** A call of the kernel's own function in place of one through pv_ops, or what that function does. */
function isParavirt(found: Buffer, address: number, text: TextPair): boolean {
  if (isNops(found)) return true;
  return isCallOrJump(found) && isNops(found.subarray(5)) && text.mayCall(targetOf(found, address));
}

/**
 * apply_retpolines(): an indirect call or jump in place of that through a thunk, with lfence before it or not; or a call of
 * another thunk, which may be one made at run time (its_allocate_thunk).
 */
function isRetpoline(found: Buffer, linked: Buffer, address: number, text: TextPair): boolean {
  // The place is as long as what is there: with a prefix or a condition before it.
  const length = linked[0] === CALL || linked[0] === JMP ? 5 : 6;
  const code = found.subarray(0, length);
  const skip = length === 6 && code[0] === 0x2e ? 1 : 0;
  const direct = code.subarray(skip);
  if (isCallOrJump(direct)) {
    const target = targetOf(direct, address + skip);
    return text.mayCall(target) || isThunk(text.codeAt(target, 4));
  }
  if (code[0] === 0x0f && linked[0] === 0x0f) return text.mayCall((address + 6 + code.readInt32LE(2)) >>> 0);
  return /^(2e)*(0fae\w\w)?(2e)*(41)?ff[de][0-7](cc|90|0f1f\w\w|6690|0f1f44\w{4}|2e)*$/.test(code.toString("hex"));
}

/** jmp *%reg; int3. */
function isThunk(code: Uint8Array | undefined): boolean {
  return code !== undefined && /^(41)?ffe[0-7]cc/.test(Buffer.from(code).toString("hex"));
}

/** apply_alternatives(): the replacement, or what was there before, filled up with nops. */
function isAlternative(site: Site, found: Buffer, linked: Buffer, address: number, text: TextPair): boolean {
  const others = (at: number) =>
    text.some(site.at + at, (each) => each.kind !== "alternative" && isExpectedChange(each, text));
  if (matches(found, linked, 0, others)) return true;
  const linkedReplacement = text.linkedBytes(site.other, site.otherLength);
  if (linkedReplacement === undefined) return false;
  const replacement = Buffer.from(linkedReplacement);
  // A direct call in place of one through pv_ops (ALT_FLAG_DIRECT_CALL, from 6.8): the replacement is a call of anything.
  if (isParavirt(found, address, text) && (linked[0] === 0xff || replacement.length === 0)) return true;
  // What is in the replacement was changed before it was put in place.
  const within = (at: number) =>
    text.some(site.other + at, (each) => isExpectedWithin(each, site, replacement, found, text));
  const distance = (site.other - site.at) | 0;
  return matches(found, replacement, distance, within) || isShortJump(found, address, replacement, distance);
}

function isExpectedWithin(each: Site, site: Site, replacement: Buffer, found: Buffer, text: TextPair): boolean {
  const from = each.at - site.other;
  if (from < 0 || from + each.length > found.length) return false;
  const code = found.subarray(from, from + each.length);
  const address = (site.at + from + text.moved) >>> 0;
  if (each.kind === "return") return isReturn(code) || (code[0] === JMP && text.mayCall(targetOf(code, address)));
  if (each.kind === "retpoline") return isRetpoline(code, replacement.subarray(from), address, text);
  return each.kind === "lock" && (code[0] === 0xf0 || code[0] === 0x3e);
}

/** recompute_jump(), until 6.3: a jump of 8 bits where that reaches, with nops behind. */
function isShortJump(found: Buffer, address: number, replacement: Buffer, distance: number): boolean {
  if (replacement[0] !== JMP || replacement.length < 5 || found[0] !== 0xeb) return false;
  const target = (targetOf(replacement, address) + distance) >>> 0;
  return (address + 2 + found.readInt8(1)) >>> 0 === target && isNops(found.subarray(2));
}

/** Where the nops begin that fill code up. */
function nopsFrom(code: Buffer): number {
  let at = code.length;
  while (at > 0 && code[at - 1] === NOP) at--;
  return at;
}

/**
 * @param distance how far the code's relative operands (calls, jumps, memory) are from what they are where it is found
 * @param accounted whether another place of change accounts for a byte
 */
function matches(found: Buffer, code: Buffer, distance: number, accounted: (at: number) => boolean): boolean {
  const length = nopsFrom(code);
  if (found.length < length) return false;
  for (let at = 0; at < length; at++) {
    if (found[at] === code[at] || accounted(at)) continue;
    const behind = distance === 0 ? 0 : behindOperand(found, code, at, distance);
    if (behind === 0) return false;
    at = behind - 1;
  }
  return isNops(found.subarray(length));
}

/** Where a relative operand ends that begins at a byte or up to three before it; 0 where there is none. */
function behindOperand(found: Buffer, code: Buffer, at: number, distance: number): number {
  for (let from = Math.max(0, at - 3); from <= at && from + 4 <= code.length && from + 4 <= found.length; from++) {
    if (((found.readInt32LE(from) - code.readInt32LE(from)) | 0) === distance) return from + 4;
  }
  return 0;
}

/** No-operations of any length (x86_nops), a jump over the rest, or what is never come by. */
function isNops(code: Buffer): boolean {
  let at = 0;
  while (at < code.length) {
    if (code[at] === NOP || code[at] === INT3) {
      at++;
      continue;
    }
    if (code[at] === 0xeb) return at + 1 < code.length && at + 2 + code.readInt8(at + 1) === code.length;
    let prefix = at;
    while (code[prefix] === 0x66 || code[prefix] === 0x2e) prefix++;
    if (code[prefix] === NOP) {
      at = prefix + 1;
      continue;
    }
    const length = longNop(code, prefix);
    if (length === 0) return false;
    at = prefix + length;
  }
  return at === code.length;
}

/** Bytes of 0f 1f with its operand; 0 for other code. */
function longNop(code: Buffer, at: number): number {
  if (code[at] !== 0x0f || code[at + 1] !== 0x1f) return 0;
  const mod = code[at + 2]! >>> 6;
  const sib = (code[at + 2]! & 7) === 4 ? 1 : 0;
  return 3 + sib + (mod === 1 ? 1 : mod === 2 ? 4 : 0);
}
