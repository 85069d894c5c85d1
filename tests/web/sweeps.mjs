// Sweeps: listed with how far and how good they are; one of them by its values, what decides, and its best run; its verbs.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, sweep, live, name }, { shot }) => {
  await page.goto(`${url}/#/sweeps`);
  const row = page.getByRole("row").filter({ hasText: name });
  await row.waitFor();
  const listed = await row.innerText();
  const findings = await accessibility(page);
  await shot("sweeps");
  await row.getByRole("link").click();
  await page.locator(".parallel canvas").waitFor();
  await page.locator(".bars li").first().waitFor();
  const axes = await page.locator(".axis .name").evaluateAll((found) => found.map((each) => each.querySelector("title").textContent));
  const trials = () => page.locator(".trials tbody tr");
  const all = await trials().count();
  const best = await page.locator(".trials tr.best").innerText();
  const scores = async () => (await page.locator(".trials tbody td:nth-child(3)").allInnerTexts()).map((text) => parseFloat(text.replace(/[^\d.-]/g, "")));
  const byScore = await scores();
  await page.getByRole("button", { name: "Score" }).click();
  const backwards = await scores();
  const drawn = await page.locator(".parallel canvas").evaluate((canvas) =>
    canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0));
  await shot("sweep");
  findings.push(...(await accessibility(page)));

  await page.evaluate(() => scrollTo(0, 0));
  const axis = await page.locator(".axis .reach").last().boundingBox();
  await page.mouse.move(axis.x + 16, axis.y + 2);
  await page.mouse.down();
  await page.mouse.move(axis.x + 16, axis.y + axis.height * 0.4, { steps: 4 });
  await page.mouse.up();
  await page.getByRole("button", { name: "Show all again" }).waitFor();
  const brushed = await trials().count();
  await page.getByRole("button", { name: "Show all again" }).click();
  await page.getByText("Choose parts of the axes by number").click();
  const slider = page.getByRole("slider", { name: "algorithm.lr from" });
  await slider.focus();
  for (let step = 0; step < 60; step += 1) await page.keyboard.press("ArrowRight");
  const told = await slider.getAttribute("aria-valuetext");
  const byKeys = await trials().count();
  await page.getByRole("button", { name: "Show all again" }).click();

  await page.goto(`${url}/#/sweeps/${live}`);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.locator("main header .state-paused").waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.locator("main header .state-running").waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Cancel its runs?" }).click();
  await page.locator("main header .state-cancelled").waitFor({ timeout: 60_000 });
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Delete the sweep?" }).click();
  await page.waitForFunction(() => location.hash === "#/sweeps");

  await page.goto(`${url}/#/sweeps/${sweep}`);
  await page.getByRole("link", { name: "Compare the best runs" }).click();
  await page.locator(".chart canvas").waitFor();
  return { listed, axes, all, best, byScore, backwards, drawn, brushed, told, byKeys, findings, compared: page.url(), elements: await page.locator("main img").count() };
});
