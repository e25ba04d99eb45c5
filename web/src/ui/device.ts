// What this device remembers for the page: settings and drafts, never anything that another device should see. A browser
// that refuses storage forgets them, and nothing breaks.

export function remembered(name: string): string | null {
  try {
    return localStorage.getItem(`skein.${name}`);
  } catch {
    return null;
  }
}

/** An empty value is forgotten. */
export function remember(name: string, value: string): void {
  try {
    if (value === '') localStorage.removeItem(`skein.${name}`);
    else localStorage.setItem(`skein.${name}`, value);
  } catch {
    // Storage is full or forbidden: the setting lasts as long as the page.
  }
}
