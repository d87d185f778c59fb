import { truncate } from "./format/width.ts";
import type { Io } from "./io.ts";

export interface Progress extends Disposable {
  update(text: string): void;
  /** Takes the line away for what is printed now; it comes back with the next look. */
  hide(): void;
}

const silent: Progress = { update() {}, hide() {}, [Symbol.dispose]() {} };

/**
 * A line on stderr about something that takes long: shown after a second, on a terminal only, and gone at the end.
 * `text` must be harmless for a terminal.
 */
export function startProgress(io: Io, text: string): Progress {
  if (!io.err.isTerminal) return silent;
  let current = text;
  let shown = false;
  const show = () => {
    shown = true;
    void io.err.write(`\r\x1b[K${truncate(current, io.err.columns - 1)}`);
  };
  let repeat: NodeJS.Timeout | undefined;
  const first = setTimeout(() => {
    show();
    repeat = setInterval(show, 200);
    repeat.unref();
  }, 1000);
  first.unref();
  return {
    update(next) {
      current = next;
    },
    hide() {
      if (shown) void io.err.write("\r\x1b[K");
    },
    [Symbol.dispose]() {
      clearTimeout(first);
      clearInterval(repeat);
      if (shown) void io.err.write("\r\x1b[K");
    },
  };
}
