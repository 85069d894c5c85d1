// What is shown where there is nothing: no sweeps, no runs chosen, a sweep that is gone, a service that is away and back.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, runs }, { shot, ignore, context }) => {
  ignore(/status of 404|ERR_INTERNET_DISCONNECTED/);
  const findings = [];
  await page.goto(`${url}/#/sweeps?state=failed`);
  await page.locator(".empty").waitFor();
  const none = await page.locator(".empty").innerText();
  findings.push(...(await accessibility(page)));
  await page.goto(`${url}/#/sweeps/sweep_0sgrhnecvkdjt8y6sngcjhzr4b`);
  await page.locator("[role=alert]").waitFor();
  const gone = await page.locator("[role=alert]").innerText();
  await page.goto(`${url}/#/compare`);
  await page.locator(".choices li").first().waitFor();
  findings.push(...(await accessibility(page)));
  await page.goto(`${url}/#/compare?runs=${runs[0]}`);
  await page.getByText("One run alone").waitFor();
  await page.getByLabel("Find a training").fill("no such name");
  await page.getByText("has “no such name” in its name").waitFor();
  await page.goto(`${url}/#/compare?runs=${runs.slice(0, 2).join()}`);
  await page.locator(".differences, .chart canvas").first().waitFor();
  await context.setOffline(true);
  await page.getByRole("combobox", { name: "Metric" }).selectOption("train/episode_length");
  await page.locator(".offline").waitFor();
  const away = await page.locator("section[aria-label=Curves]").innerText();
  await shot("compare-offline");
  findings.push(...(await accessibility(page)));
  await context.setOffline(false);
  const again = page.getByRole("button", { name: "Try again" }).first();
  const curves = page.locator(".chart canvas");
  await Promise.race([again.click().catch(() => undefined), curves.waitFor()]); // the page may be quicker to ask again
  await curves.waitFor();
  await page.locator(".offline").waitFor({ state: "detached" });
  return { none, gone, away, findings };
});
