// Counts in words, by the language's own plural rules.

const rules = new Intl.PluralRules('en');

/** "1 change", "3 changes": the number with the form that its plural category asks for. */
export function counted(count: number, one: string, other: string): string {
  return `${count.toLocaleString('en-US')} ${rules.select(count) === 'one' ? one : other}`;
}
