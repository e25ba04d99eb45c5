// What someone typed at sign-in, and what this device calls itself at the relay.

/** The relay's tokens begin with its name; anything else is a pairing code. Null while there is nothing to tell them by. */
export function kindOf(secret: string): 'code' | 'token' | null {
  if (secret.length < 6) return null;
  return secret.startsWith('skein_') ? 'token' : 'code';
}

/** The code of a sign-in link, if a whole link was pasted; else what was typed. */
export function secretOf(typed: string): string {
  const code = /#\/sign-in\?(?:.*&)?code=([^&\s]+)/.exec(typed)?.[1];
  return code ? decodeURIComponent(code) : typed.trim();
}

const browsers: readonly [RegExp, string][] = [
  [/Edg\//, 'Edge'],
  [/Firefox\//, 'Firefox'],
  [/Chrom(e|ium)\//, 'Chromium'],
  [/Safari\//, 'Safari'],
];
const systems: readonly [RegExp, string][] = [
  [/Android/, 'Android'],
  [/iPhone|iPad/, 'iOS'],
  [/Windows/, 'Windows'],
  [/Mac OS/, 'macOS'],
  [/Linux/, 'Linux'],
];

/** "Firefox on Linux": how the relay lists this device. */
export function deviceName(userAgent: string): string {
  const browser = browsers.find(([pattern]) => pattern.test(userAgent))?.[1] ?? 'Browser';
  const system = systems.find(([pattern]) => pattern.test(userAgent))?.[1];
  return system ? `${browser} on ${system}` : browser;
}
