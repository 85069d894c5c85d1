// The frame: every view opens from the navigation, nothing of it is blocked by the page's own policy.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url }, { shot }) => {
  await page.goto(url);
  const titles = [];
  for (const name of ["Sweeps", "Policies", "Environments", "System", "Runs"]) {
    await page.getByRole("link", { name, exact: true }).click();
    await page.waitForFunction((title) => document.title.startsWith(title), name);
    await page.waitForFunction(() => !document.querySelector("main .spinner"));
    titles.push(await page.title());
  }
  await page.keyboard.press("Tab");
  await shot("frame");
  return { titles, findings: await accessibility(page) };
});
