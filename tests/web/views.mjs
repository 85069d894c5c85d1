// Some views on a phone, in the dark and without a worker: what each says, and how much wider than the screen it is.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, views, name }, { shot }) => {
  const told = {};
  for (const view of views) {
    await page.goto(`${url}/#/${view}`);
    await page.locator("main h1").waitFor();
    await page.waitForFunction(() => !document.querySelector("main .spinner"));
    told[view] = {
      text: await page.locator("main").textContent(),
      sideways: await page.evaluate(() => document.documentElement.scrollWidth - innerWidth),
      findings: await accessibility(page),
    };
    await shot(`${name}-${view.replaceAll("/", "-")}`);
  }
  return told;
});
