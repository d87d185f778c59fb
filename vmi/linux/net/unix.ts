import type { Budget } from "../../budget.ts";
import type { Halves } from "../../bytes/address.ts";
import { struct } from "../../symbols/specs.ts";
import type { Kernel } from "../kernel.ts";
import { walkList } from "../list.ts";
import { isNull, pinU32, plus, readPointer, readU32 } from "../read.ts";

/** include/net/af_unix.h */
const unixSock = struct("unix_sock", { addr: "addr" });
const unixAddress = struct("unix_address", { len: "len", name: "name" });
const unixSkbParms = struct("?unix_skb_parms", { consumed: "consumed" });
const sock = struct("sock", { sk_receive_queue: "sk_receive_queue", sk_max_ack_backlog: "sk_max_ack_backlog" });
/** include/linux/skbuff.h */
const skBuffHead = struct("sk_buff_head", { qlen: "qlen" });
const skBuff = struct("sk_buff", { next: "next", len: "len", cb: "cb" });

/** struct sockaddr_un: a family of two bytes, then the path. */
const FAMILY_BYTES = 2;
const MAX_NAME = 108;
const AT_SIGN = 0x40;
/** Messages in a queue beyond these are not looked at; a queue holds as much as SO_SNDBUF of its senders allows. */
const MAX_MESSAGES = 1 << 16;

/**
 * The address of a unix socket as /proc/net/unix shows it: a path, or an abstract name with @ for its zeros. Undefined
 * when it has none.
 */
export function localSocketPath(kernel: Kernel, at: Halves): Uint8Array | undefined {
  const { space } = kernel;
  const layout = kernel.layout(unixAddress);
  const address = readPointer(space, at, kernel.layout(unixSock).addr);
  if (address === undefined || isNull(address)) return undefined;
  const length = (readU32(space, address, layout.len) ?? 0) - FAMILY_BYTES;
  // The length of a path counts the zero behind it.
  if (length <= 0 || length > MAX_NAME + 1) return undefined;
  const name = new Uint8Array(length);
  const from = plus(address, layout.name + FAMILY_BYTES);
  if (space.read(from.hi, from.lo, name) !== length) return undefined;
  // Freed with its socket, and no pointer tells: the next one gets the same memory.
  for (let offset = 0; offset < length; offset += 4) pinU32(space, from, offset);
  const shown = name[0] === 0 ? name : name.subarray(0, length - 1);
  return shown.map((byte) => (byte === 0 ? AT_SIGN : byte));
}

/**
 * Queues of a unix socket as unix_diag tells them (net/unix/diag.c). One that listens: connections that wait to be
 * accepted, and how many may. Others: bytes that wait to be read, of a datagram socket those of the first message.
 *
 * @param send what is charged for messages that were sent and not read yet, bytes
 */
export function localSocketQueues(
  kernel: Kernel,
  { at, type, isListening }: { at: Halves; type: string; isListening: boolean },
  send: number | undefined,
  budget: Budget,
): { send: number | undefined; receive: number | undefined } {
  const { space } = kernel;
  const { sk_receive_queue, sk_max_ack_backlog } = kernel.layout(sock);
  const queue = plus(at, sk_receive_queue);
  const count = readU32(space, queue, kernel.layout(skBuffHead).qlen);
  if (isListening) return { send: readU32(space, at, sk_max_ack_backlog), receive: count };
  if (count === 0 || count === undefined) return { send, receive: count };
  const message = kernel.layout(skBuff);
  const { consumed } = kernel.layout(unixSkbParms);
  const found = walkList(kernel, queue, message.next, type === "dgram" ? 1 : MAX_MESSAGES, budget);
  if (!found.complete && type !== "dgram") return { send, receive: undefined };
  let receive = 0;
  for (let i = 0; i < found.count; i++) {
    const skb = { hi: found.hi[i]!, lo: found.lo[i]! };
    const length = readU32(space, skb, message.len);
    const taken = consumed < 0 ? 0 : readU32(space, skb, message.cb + consumed);
    if (length === undefined || taken === undefined) return { send, receive: undefined };
    receive += Math.max(0, length - taken);
  }
  return { send, receive };
}
