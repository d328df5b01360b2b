// Holds the examples in docs/browser.md and docs/coming-from.md to the types of the built package:
// each block of `ts` and `tsx` is compiled as it stands.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const out = join(root, "build/docs");
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const blocks = ["browser", "coming-from"].flatMap((name) => {
  const page = readFileSync(join(root, `../../docs/${name}.md`), "utf8");
  const found = [...page.matchAll(/^```(tsx?)\n([\s\S]*?)^```$/gm)];
  if (found.length < 3) throw new Error(`docs/${name}.md has lost its examples`);
  return found;
});
blocks.forEach(([, kind, code], at) => writeFileSync(join(out, `example-${at}.${kind}`), code));
writeFileSync(
  join(out, "tsconfig.json"),
  JSON.stringify({
    extends: "../../tsconfig.json",
    compilerOptions: {
      noEmit: true,
      declaration: false,
      stripInternal: false,
      rootDir: "../..",
      moduleDetection: "force",
      paths: {
        "@tidegate/client": ["../../dist/index.d.ts"],
        "@tidegate/client/*": ["../../dist/*.d.ts"],
      },
    },
    include: ["."],
  }),
);
execFileSync(join(root, "node_modules/.bin/tsc"), ["-p", out], { stdio: "inherit" });
console.log(`docs: ${blocks.length} examples compile`);
