// A tool call's input as a person reads it: one line beside the name, and names with values where it asks.

export interface Argument {
  name: string;
  value: string;
}

/** The arguments of an input that is an object; null if it is anything else, or not whole. */
export function args(input: string): Argument[] | null {
  try {
    const value: unknown = JSON.parse(input);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
    return Object.entries(value).map(([name, field]) => ({ name, value: shown(field) }));
  } catch {
    return null;
  }
}

/** One line, cut by the screen: the values alone, or the text as it streams. */
export function oneLine(input: string): string {
  const known = args(input);
  const text = known ? known.map((argument) => argument.value).join('  ') : input;
  return text.replace(/\s+/g, ' ').trim().slice(0, 300);
}

/** The whole, laid out. */
export function laidOut(input: string): string {
  try {
    return JSON.stringify(JSON.parse(input), null, 2);
  } catch {
    return input;
  }
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
