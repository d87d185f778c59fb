import type { ServerResponse } from "node:http";
import http2 from "node:http2";

/**
 * Ends an answer by HTTP of which the client has taken nothing for `ms` although some of it waits. Of HTTP/2's answers
 * only this one ends. Node restarts the time whenever bytes leave, and tells of its end when there is nothing to send, too.
 */
export function endUnread(response: ServerResponse | Omit<http2.Http2ServerResponse, "write">, ms: number): void {
  response.setTimeout(ms, () => {
    if (response.writableLength === 0) return;
    if ("stream" in response) response.stream.close(http2.constants.NGHTTP2_CANCEL);
    else response.destroy();
  });
}
