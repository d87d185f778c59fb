const units = ["B", "K", "M", "G", "T", "P"] as const;

/** 1536 → "1.5K": powers of 1024, at most four significant characters. */
export function formatBytes(bytes: number | bigint): string {
  let value = Number(bytes);
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  if (unit === 0) return `${value}`;
  const digits = Math.abs(value) < 10 && !Number.isInteger(value) ? 1 : 0;
  return `${value.toFixed(digits)}${units[unit]}`;
}

/** Milliseconds since 1970 as "2026-11-23 09:10:33Z"; empty for 0, which stands for never. */
export function formatTime(milliseconds: number | bigint): string {
  const value = Number(milliseconds);
  // Beyond ±8.64e15 ms there is no Date: a guest may claim any time.
  if (value === 0) return "";
  if (!(Math.abs(value) <= 8.64e15)) return `${milliseconds}`;
  return new Date(value)
    .toISOString()
    .replace("T", " ")
    .replace(/\.\d+Z/, "Z");
}

/** Seconds as "3d 04:05:06" or "04:05:06". */
export function formatDuration(seconds: number | bigint): string {
  const whole = Math.floor(Number(seconds));
  if (!Number.isSafeInteger(whole) || whole < 0) return `${seconds}`;
  const two = (value: number) => value.toString().padStart(2, "0");
  const clock = `${two(Math.floor(whole / 3600) % 24)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  const days = Math.floor(whole / 86_400);
  return days > 0 ? `${days}d ${clock}` : clock;
}

/** An address as the kernel prints it: 16 hexadecimal digits. */
export function formatAddress(address: bigint | number): string {
  return `0x${BigInt.asUintN(64, BigInt(address)).toString(16).padStart(16, "0")}`;
}

/** 1 → "1 row", 2 → "2 rows". */
export function count(number: number, noun: string, plural = `${noun}s`): string {
  return `${number} ${number === 1 ? noun : plural}`;
}
