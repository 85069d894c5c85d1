// One walk of a real browser: a script calls `walk(async (page, given) => result)`, and Python reads the result.
// What a page must never do fails every walk: a violated policy, an uncaught error, a message on the console.
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";

const require = createRequire(new URL("../../service/web/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

/**
 * @param {(page: any, given: any, tools: { shot: (name: string) => Promise<void>, ignore: (text: RegExp) => void,
 *   context: any, browser: any }) => Promise<any>} steps `given` is what Python passed: url, and more
 */
export async function walk(steps) {
  const given = JSON.parse(process.argv[2] ?? "{}");
  const browser = await chromium.launch({ executablePath: given.chromium, args: FLAGS });
  const problems = [];
  const ignored = [];
  try {
    const context = await browser.newContext({
      viewport: { width: given.width ?? 1280, height: given.height ?? 800 },
      colorScheme: given.theme ?? "light",
      acceptDownloads: true,
    });
    context.setDefaultTimeout(20_000);
    const page = await context.newPage();
    page.on("pageerror", (error) => problems.push(`error: ${error.message}`));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) problems.push(`${message.type()}: ${message.text()}`);
    });
    const shot = async (name) => {
      mkdirSync(given.shots, { recursive: true });
      await page.screenshot({ path: `${given.shots}/${name}.png` });
    };
    try {
      const result = await steps(page, given, { shot, ignore: (text) => ignored.push(text), context, browser });
      const left = problems.filter((problem) => !ignored.some((text) => text.test(problem)));
      if (left.length) throw new Error(`the page complained: ${left.join(" | ")}`);
      console.log(JSON.stringify(result ?? null));
    } catch (error) {
      await shot("failed").catch(() => undefined);
      const shown = await page.textContent("body", { timeout: 1000 }).catch(() => "");
      console.error(`${error.stack}\n${problems.join("\n")}\nat ${page.url()}: ${shown.slice(0, 2000)}`);
      process.exitCode = 1;
    }
  } finally {
    await browser.close();
  }
}

/** What axe-core finds on a page, as one line each. */
export async function accessibility(page) {
  const source = require("node:fs").readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
  await page.evaluate(source);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(" ")} (${node.failureSummary})`));
}
