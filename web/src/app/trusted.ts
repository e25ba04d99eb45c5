// The one policy for addresses of scripts: Trusted Types let workers start from our own files only. Import it before
// anything that starts one.

const ours = /^\/(?:.*\/)?(?:sw\.js|assets\/[\w.-]+)$/;

/** The address, if it is one of our own script files; throws for any other. */
export function trusted(address: string): string {
  const url = new URL(address, location.href);
  const development = import.meta.env.DEV && url.origin === location.origin;
  if (url.origin === location.origin && (ours.test(url.pathname) || development)) return address;
  throw new TypeError(`not a script of this page: ${url.href}`);
}

interface Factory {
  createPolicy(name: string, rules: { createScriptURL: (address: string) => string }): unknown;
}

const { trustedTypes } = globalThis as { trustedTypes?: Factory };
trustedTypes?.createPolicy('default', { createScriptURL: trusted });
