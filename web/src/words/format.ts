// Money, times and counts as they are written on the screen. Formatters are made once: building one per row is what costs.

const grouped = new Intl.NumberFormat('en-US');
const hourMinute = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const dayMonth = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const whole = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  day: 'numeric',
  month: 'long',
});

/** Millionths of a dollar, to a hundredth of a cent: dollars and cents, and the two digits that may be skipped. */
export function money(micros: number): { cents: string; mil: string } {
  const units = Math.round(micros / 100);
  const mil = String(units % 100).padStart(2, '0');
  const cents = Math.floor(units / 100);
  return { cents: `$${grouped.format(Math.floor(cents / 100))}.${String(cents % 100).padStart(2, '0')}`, mil };
}

/** The same in one text, as a name or a table for copying needs it; null is unknown, never zero. */
export function moneyText(micros: number | null, estimated: boolean, unknown: string): string {
  if (micros === null) return unknown;
  const { cents, mil } = money(micros);
  return `${estimated ? '≈ ' : ''}${cents}${mil}`;
}

export function count(n: number): string {
  return grouped.format(n);
}

/** Bytes: "640 KB", "2.1 MB", "1.4 GB". */
export function size(bytes: number): string {
  if (bytes < 999_500) return `${grouped.format(Math.ceil(bytes / 1000))} KB`;
  const [unit, name] = bytes < 999_950_000 ? [1e6, 'MB'] : [1e9, 'GB'];
  return `${(bytes / unit).toFixed(1)} ${name}`;
}

/** How long ago, short: "now", "12 min", "3 h", "2 d", then the day. */
export function ago(at: number, now: number): string {
  const minutes = Math.floor((now - at) / 60_000);
  if (minutes < 1) return 'now';
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h`;
  const days = Math.floor(hours / 24);
  return days < 7 ? `${days} d` : dayMonth.format(at);
}

/** "14:31", with the day before it when that isn't today. */
export function clock(at: number, now: number): string {
  const time = hourMinute.format(at);
  return new Date(at).toDateString() === new Date(now).toDateString() ? time : `${dayMonth.format(at)}, ${time}`;
}

/** For a hover: "25 November at 14:32:08". */
export function exact(at: number): string {
  return whole.format(at);
}

/** A duration that goes on: "0:42", "18:20", "1:02:03". */
export function elapsed(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const pad = (n: number) => String(n).padStart(2, '0');
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${pad(seconds % 60)}`;
  return `${Math.floor(minutes / 60)}:${pad(minutes % 60)}:${pad(seconds % 60)}`;
}
