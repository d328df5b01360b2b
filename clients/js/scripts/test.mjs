// Bundles the tests (TypeScript, any part of src) and runs them with node:test.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const out = join(root, "build/test");
rmSync(out, { recursive: true, force: true });
const wanted = process.argv.slice(2);
const tests = readdirSync(join(root, "test")).filter((name) => /\.test\.tsx?$/.test(name) && (!wanted.length || wanted.some((word) => name.includes(word))));
await build({
  entryPoints: tests.map((name) => join(root, "test", name)),
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  packages: "external",
  outdir: out,
  outExtension: { ".js": ".mjs" },
  sourcemap: "inline",
});
const files = readdirSync(out).filter((name) => name.endsWith(".mjs")).map((name) => join(out, name));
const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", "--test-reporter=dot", "--test-timeout=60000", ...files], { stdio: "inherit", cwd: root, env: { ...process.env, VECTORS: join(root, "../vectors") } });
process.exit(status ?? 1);
