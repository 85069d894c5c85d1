// The frame: every view opens from the navigation, nothing of it is blocked by the page's own policy.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url }, { shot }) => {
  await page.clock.install();
  await page.goto(url);
  const titles = [];
  for (const name of ["Sweeps", "Policies", "Environments", "System", "Runs"]) {
    await page.getByRole("link", { name, exact: true }).click();
    await page.waitForFunction((title) => document.title.startsWith(title), name);
    await page.waitForFunction(() => !document.querySelector("main .spinner"));
    await page.waitForFunction(() => document.activeElement?.matches("main h1"));
    titles.push(await page.title());
  }
  await page.keyboard.press("Tab");
  await shot("frame");
  const findings = await accessibility(page);
  await page.emulateMedia({ forcedColors: "active" });
  const backgrounds = await page.locator(".top nav a").evaluateAll((links) => links.map((link) => getComputedStyle(link).backgroundColor));
  await page.emulateMedia({ forcedColors: "none" });

  // connections that say nothing more, as after a night's sleep: said, and it goes on when there is an answer
  const swallow = () => undefined;
  await page.route(/\/(v1|health)\//, swallow);
  await page.clock.fastForward(45_000); // the stream
  await page.getByText("The service does not answer").waitFor();
  await page.unroute(/\/(v1|health)\//, swallow);
  await page.clock.fastForward(10_000); // the question that was swallowed
  await page.waitForFunction(() => !document.querySelector(".offline"));
  return { titles, findings, backgrounds };
});
