// A view as it looks on a phone and in the dark: nothing runs out of the page sideways, axe-core finds nothing.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, address, wait, name }, { shot }) => {
  await page.goto(`${url}/${address}`);
  await page.locator(wait).first().waitFor();
  await page.waitForFunction(() => !document.querySelector("main .spinner"));
  await page.waitForTimeout(300);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  await page.setViewportSize({ width: page.viewportSize().width, height: await page.evaluate(() => Math.min(4000, document.documentElement.scrollHeight)) });
  await shot(name);
  return { wide, findings: await accessibility(page) };
});
