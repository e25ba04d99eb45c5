// How the page is built: plain files under dist/, every script and style a file of its own (the relay's Content Security
// Policy allows no inline ones), the engine's worker as a module, the service worker from src/sw.ts.

import { existsSync } from 'node:fs';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import icons from 'unplugin-icons/vite';
import { defineConfig } from 'vite';
import { VitePWA } from 'vite-plugin-pwa';
import { relays, withPolicy } from './policy';

export default defineConfig({
  base: './',
  plugins: [
    svelte(),
    icons({ compiler: 'svelte', autoInstall: false }),
    withPolicy(relays(process.env['SKEIN_RELAYS'] ?? '')),
    VitePWA({
      strategies: 'injectManifest',
      registerType: 'prompt',
      injectRegister: null,
      srcDir: 'src',
      filename: 'sw.ts',
      disable: !existsSync(new URL('src/sw.ts', import.meta.url)),
      injectManifest: {
        globPatterns: ['**/*.{html,js,css,wasm,woff2,svg}'],
        maximumFileSizeToCacheInBytes: 8e6,
      },
      manifest: {
        name: 'Skein',
        short_name: 'Skein',
        description: 'Sessions with agents, on this device first',
        start_url: './',
        display: 'standalone',
        background_color: '#fbf9f4',
        theme_color: '#fbf9f4',
        icons: [{ src: 'icon.svg', sizes: 'any', type: 'image/svg+xml', purpose: 'any maskable' }],
      },
    }),
  ],
  worker: { format: 'es' },
  build: {
    target: 'es2022',
    // All of these know light-dark(), so the palette's roles stay as written.
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { port: 5180, strictPort: false },
});
