// A session's shape laid flat: from the letters of its strand to what is drawn, 7.5 px a step, the newest at the right.

export interface Strand {
  width: number;
  /** Stretches of thread between breaks. */
  lines: readonly [from: number, to: number][];
  /** What a person said. */
  ticks: readonly number[];
  /** Tool calls. */
  dots: readonly number[];
  /** What waits for a person. */
  diamonds: readonly number[];
  breaks: readonly number[];
  /** Where the agent changed. */
  whips: readonly number[];
}

const step = 7.5;
const start = 4;

/** Reads `k` a message, `b` a call, `t` a turn without one, `x` a failure, `d` what waits, `a` a change of agent. */
export function strand(letters: string): Strand {
  const at = (wanted: string) => [...letters].flatMap((letter, index) => (letter === wanted ? [start + step * index] : []));
  const width = letters.length * step + 6;
  const breaks = at('x');
  const lines: [number, number][] = [];
  let from = 0;
  for (const centre of breaks) {
    lines.push([from, centre - 3]);
    from = centre + 3;
  }
  lines.push([from, width]);
  return { width, lines, ticks: at('k'), dots: at('b'), diamonds: at('d'), breaks, whips: at('a') };
}
