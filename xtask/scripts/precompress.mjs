// precompress.mjs DIR: writes a brotli sibling (.br) beside every file of DIR that shrinks by it, so that the relay
// never compresses while serving. Prints how much was saved.
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";

const directory = process.argv[2];
let before = 0;
let after = 0;

const files = readdirSync(directory, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath ?? entry.path, entry.name));

for (const path of files.filter((path) => path.endsWith(".br"))) rmSync(path);

for (const path of files.filter((path) => !path.endsWith(".br"))) {
  const bytes = readFileSync(path);
  const small = brotliCompressSync(bytes, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
      [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    },
  });
  // Fonts and pictures are compressed already.
  if (small.length > bytes.length * 0.95) continue;
  writeFileSync(`${path}.br`, small);
  before += bytes.length;
  after += small.length;
}
console.error(`web client: ${before} compressible bytes, ${after} compressed`);
