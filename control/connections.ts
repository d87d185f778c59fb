// The places of the public port: who has one, for how long without a request, and who leaves when all are taken.
import type { Socket } from "node:net";

export interface ConnectionLimits {
  /** Connections at once. */
  readonly max: number;
  /** In ms, from a connection's first packet to its first request's header, or HELLO's coming to its turn. */
  readonly openMs: number;
  /** In ms, from a request's header to its last byte. */
  readonly requestMs: number;
  /** In ms; how long a connection of HTTP is kept without a request. */
  readonly idleMs: number;
}

/** A client's connection, from its first packet on. */
export interface Connection {
  /** A caller has proved itself over it just now: it leaves after all strangers', and not while it is in use. */
  admitted(): void;
  /** A request has begun; returns how to tell that it is over. */
  begin(): () => void;
  /** It speaks a protocol that ends silent clients itself. `inUse`: whether calls are under way. */
  handOver(inUse: () => boolean): void;
}

export interface Connections {
  /** Gives a connection a place, another's if need be; undefined when all are in use, or the client has left already. */
  open(socket: Socket): Connection | undefined;
  /** The connection under a TLS socket. */
  under(secured: Socket): Connection | undefined;
  /** Ends them all. */
  close(): void;
}

interface Place extends Connection {
  readonly stranger: boolean;
  readonly inUse: boolean;
  leave(): void;
}

export function createConnections({ max, openMs, idleMs }: ConnectionLimits): Connections {
  /** The one used least recently first. */
  const places = new Map<string, Place>();

  /** Who makes room: the stranger that has been here longest, else the caller that has asked nothing for longest. */
  function dispensable(): Place | undefined {
    const all = [...places.values()];
    return all.find(({ stranger }) => stranger) ?? all.find(({ inUse }) => !inUse);
  }

  function createPlace(socket: Socket, key: string): Place {
    let stranger = true;
    let requests = 0;
    let inUse = () => requests > 0;
    // The TLS handshake has no time limit of its own that holds for a client that sends a byte now and then.
    let timer: NodeJS.Timeout | undefined = setTimeout(leave, openMs);

    function leave(): void {
      clearTimeout(timer);
      if (places.get(key) === place) places.delete(key);
      socket.destroy();
    }

    const place: Place = {
      get stranger() {
        return stranger;
      },
      get inUse() {
        return inUse();
      },
      leave,
      admitted() {
        stranger = false;
        if (places.get(key) !== place) return;
        places.delete(key);
        places.set(key, place);
      },
      begin() {
        requests++;
        clearTimeout(timer);
        return () => {
          requests--;
          if (requests === 0 && !socket.destroyed) timer = setTimeout(leave, idleMs);
        };
      },
      handOver(calls) {
        clearTimeout(timer);
        inUse = calls;
      },
    };
    socket.once("close", leave);
    return place;
  }

  return {
    open(socket) {
      const key = keyOf(socket);
      if (key === undefined) return undefined;
      if (places.size >= max) {
        const other = dispensable();
        if (other === undefined) return undefined;
        other.leave();
      }
      const place = createPlace(socket, key);
      places.set(key, place);
      return place;
    },
    under(secured) {
      const key = keyOf(secured);
      return key === undefined ? undefined : places.get(key);
    },
    close() {
      for (const place of places.values()) place.leave();
    },
  };
}

/** A TCP connection is told by its addresses, which a TLS socket has from the one under it; none when it has ended. */
function keyOf({ remoteAddress, remotePort, localAddress }: Socket): string | undefined {
  return remoteAddress === undefined ? undefined : `${remoteAddress} ${remotePort} ${localAddress}`;
}
