// size.mjs FILE: prints its bytes, raw and brotli.
import { readFileSync } from "node:fs";
import { brotliCompressSync } from "node:zlib";

const bytes = readFileSync(process.argv[2]);
console.log(bytes.length, brotliCompressSync(bytes).length);
