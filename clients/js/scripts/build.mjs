// Builds dist: types by tsc, one file for each entry by esbuild, made small by terser.
//
// Members that only our own files use are renamed (INTERNAL); what an application, a browser or the
// protocol knows by name is not in that list.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { minify } from "terser";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");
// No name of an event either: `types.change` of a watch was another member than what listeners had asked for.
const INTERNAL =
  /^(folded|head|course|line|again|told|over|watches|become|take|release|hasRoom|remove|wake|sleep|opened|lost|decided|place|bases|ways|unwatch|refresh|look|heard|inPercent|asked|changed|takeOver|closed|failed|owner|forget|host|do|mayRenew|received|end|ms|log|ask|carry|errorCode|errorText|frames|way|fault|copy|announce|shared|readers|types|settle|last|unlisten|dispatch|tell|leave|frameOf|lines|hear)$/;

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);
execFileSync(join(root, "node_modules/.bin/tsc"), ["-p", root, "--emitDeclarationOnly"], { stdio: "inherit" });

let names = {}; // the same new names in every file
async function entry(from, to, options = {}) {
  const { outputFiles, mangleCache } = await build({
    entryPoints: [join(root, from)],
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    write: false,
    mangleCache: names,
    legalComments: "none",
    ...options,
  });
  names = mangleCache ?? names;
  const small = await minify(outputFiles[0].text, {
    module: true,
    ecma: 2022,
    compress: { passes: 6, pure_getters: true, unsafe: true },
  });
  writeFileSync(join(dist, to), `${small.code}\n`);
}

// Declarations of members alone are no code.
const core = { mangleProps: INTERNAL, tsconfigRaw: { compilerOptions: { useDefineForClassFields: false } } };
await entry("src/index.ts", "index.js", { ...core, external: ["./http.js"] });
await entry("src/http.ts", "http.js", core);
const external = ["./index.js", "./cancel.js", "react", "vue"]; // store.js goes into both
for (const name of ["cancel", "feed", "tabs", "react", "vue", "element"])
  if (existsSync(join(root, `src/${name}.ts`))) await entry(`src/${name}.ts`, `${name}.js`, { external });
// One file for pages without a bundler: the element, the client, `cancel` and `watchFeed`.
const contents = ["element", "cancel", "feed"].map((name) => `export * from "./${name}.js";`).join("\n");
await entry("", "element.min.js", { entryPoints: undefined, stdin: { contents, resolveDir: dist } });
copyFileSync(join(root, "../../LICENSE"), join(root, "LICENSE"));
console.log(`built ${JSON.parse(readFileSync(join(root, "package.json"), "utf8")).name} into dist`);
