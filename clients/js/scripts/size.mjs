// What a page loads to watch an operation, gzipped; fails above the limit. The HTTP fall-back is
// loaded by those only whose network lets no WebSocket through.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMITS = { "index.js": 6 * 1024, "http.js": 3 * 1024, "cancel.js": 1024, "feed.js": 1536, "react.js": 1024, "vue.js": 1024, "tabs.js": 3 * 1024, "element.js": 4352 };

let failed = false;
for (const [file, limit] of Object.entries(LIMITS)) {
  let bytes;
  try {
    bytes = gzipSync(readFileSync(new URL(`../dist/${file}`, import.meta.url)), { level: 9 }).length;
  } catch {
    console.error(`size: dist/${file} is missing; run \`npm run build\``);
    failed = true;
    continue;
  }
  const over = bytes > limit;
  failed ||= over;
  console.log(`size: ${file.padEnd(10)} ${String(bytes).padStart(5)} bytes gzipped of ${limit}${over ? "  TOO LARGE" : ""}`);
}
process.exit(failed ? 1 : 0);
