// Comparing: runs are found and chosen, their curves lie over each other with seeds as one line, configurations are told
// apart, and their policies play the same episodes.
import { readFileSync } from "node:fs";
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, runs, hostile, live, twin }, { shot, context, ignore }) => {
  ignore(/status of 404/);
  const unasked = [];
  page.on("request", (request) => request.url().includes("/v1/runs//") && unasked.push(request.url()));
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.goto(`${url}/#/compare`);
  await page.getByRole("searchbox", { name: "Find a training" }).fill("pair");
  for (const name of ["pair one", "pair two"]) await page.getByRole("checkbox", { name }).first().check();
  await page.locator(".chart canvas").waitFor();
  const chosen = new URL(await page.url()).hash;
  await page.goto(`${url}/#/compare?runs=${runs.join()}`);
  await page.locator(".chart canvas").waitFor();
  await page.locator(".differences").waitFor();
  const legend = await page.locator(".legend li > :first-child").allInnerTexts();
  const differing = await page.locator(".differences tbody tr th").allInnerTexts();
  const origins = await page.locator(".differences .origin").allInnerTexts();
  await page.getByRole("checkbox", { name: "Seeds too" }).check();
  const withSeeds = await page.locator(".differences tbody tr th").allInnerTexts();
  await page.getByRole("checkbox", { name: "Seeds too" }).uncheck();
  await shot("compare");
  const findings = await accessibility(page);

  const entry = page.locator(".legend button").first();
  await entry.click();
  const isHidden = (await entry.getAttribute("aria-pressed")) === "false";
  await entry.click();
  await page.getByRole("combobox", { name: "Over" }).selectOption("time");
  await page.getByRole("slider", { name: "Smoothing" }).fill("0.6");
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "CSV", exact: true }).click();
  const csv = readFileSync(await (await download).path(), "utf8");
  const picture = page.waitForEvent("download");
  await page.getByRole("button", { name: "PNG", exact: true }).click();
  const png = (await picture).suggestedFilename();
  await page.getByRole("button", { name: "Copy the address" }).click();
  const address = await page.evaluate(() => navigator.clipboard.readText());
  await page.goto("about:blank");
  await page.goto(address);
  const kept = await page.getByRole("combobox", { name: "Over" }).inputValue();
  const together = page.getByRole("combobox", { name: "One line for" });
  await together.selectOption("each value of half");
  await page.waitForFunction(() => document.querySelectorAll(".legend li").length === 2);
  const halves = await page.locator(".legend li > :first-child").allInnerTexts();
  await together.selectOption("each run");
  await page.waitForFunction((n) => document.querySelectorAll(".legend li").length === n, runs.length);

  await page.getByLabel("Episodes of each").fill("5");
  await page.getByRole("button", { name: `Play ${runs.length} policies` }).click();
  await page.locator(".verdicts li").first().waitFor({ timeout: 120_000 });
  const verdicts = await page.locator(".verdicts li").allInnerTexts();
  const scores = await page.locator("[aria-label=Scores] tbody tr").count();
  const played = await accessibility(page);
  await page.locator(".verdicts").scrollIntoViewIfNeeded();
  await shot("compare-policies");
  await page.reload();
  await page.locator(".verdicts li").first().waitFor();
  await page.goto(`${url}/${await page.locator("[aria-label='Paired evaluation'] .hint a").getAttribute("href")}`);
  await page.locator(".panel .verdicts li").first().waitFor();
  await page.getByText("All of each policy").click();
  const ownPage = {
    scores: await page.locator("[aria-label=Scores] tbody tr td:first-child a").evaluateAll((all) => all.map((each) => each.getAttribute("href"))),
    all: await page.locator("[aria-label=Policies] tbody tr").first().locator("th, td").allInnerTexts(),
    columns: await page.locator("[aria-label=Policies] thead th").allInnerTexts(),
    said: await page.locator(".panel").innerText(),
  };
  played.push(...(await accessibility(page)));
  await shot("compare-result");

  await page.goto(`${url}/#/compare?runs=${[runs[0], live].join()}&metric=train/episode_return`);
  await page.locator(".chart canvas").waitFor();
  const points = async () => Number(/live, (\d+) points/.exec(await page.locator(".chart .plot").getAttribute("aria-label"))?.[1] ?? 0);
  const before = await points();
  for (let turn = 0; turn < 100 && (await points()) <= before; turn += 1) await page.waitForTimeout(200);
  const grown = (await points()) - before;
  await page.goto(`${url}/#/compare?runs=${[runs[0], "run_0sgdpt27fj407jyj64ccs5950m"].join()}`);
  await page.locator(".warning").waitFor();
  const gone = await page.locator(".warning").innerText();
  await page.goto(`${url}/#/compare?runs=${[runs[0], hostile].join()}`);
  await page.locator(".differences").waitFor();
  const names = await page.locator(".differences thead th").allInnerTexts();
  const elements = await page.locator("main img, main script").count();
  await page.goto(`${url}/#/compare?runs=run_0sgdpt27fj407jyj64ccs5950m`);
  await page.locator(".warning").waitFor();
  await page.goto("about:blank");
  await page.clock.install();
  await page.goto(`${url}/#/compare?runs=${[...runs, twin].join()}`);
  await page.locator(".legend li").first().waitFor();
  const withTwin = await page.locator(".legend li > :first-child").first().innerText();
  await page.request.delete(`${url}/v1/runs/${twin}`);
  await page.clock.runFor(11_000);
  await page.locator(".warning").waitFor();
  const deleted = await page.locator(".warning").innerText();
  return { ownPage, withTwin, deleted, unasked, chosen, legend, differing, origins, withSeeds, findings: [...findings, ...played], isHidden, csv, png, kept, verdicts, scores, gone, names, elements, grown, halves };
});
