// Watching: films beside each other play, an episode goes step by step with what the policy thought, and Play answers sliders.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, run, plain, name }, { shot, context, ignore }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const findings = {};
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  await page.goto(`${url}/#/runs/${run}?tab=watch`);
  await page.waitForFunction(() => [...document.querySelectorAll("video.side")].filter((each) => each.readyState >= 2).length === 3);
  await page.getByRole("button", { name: "Play all" }).click();
  await page.waitForFunction(() => [...document.querySelectorAll("video.side")].every((each) => each.currentTime > 0.1));
  const moments = await page.locator(".timeline button").allInnerTexts();
  await page.locator(".thinking .bars").first().waitFor();
  await page.waitForFunction(() => document.querySelector(".step-through video")?.readyState >= 2);
  await shot(`${name}-watch`);
  findings.watch = await accessibility(page);

  const takes = [];
  for (const button of await page.getByRole("button", { name: "Step through" }).all()) {
    await button.click();
    takes.push(Number(new URLSearchParams(page.url().split("?")[1]).get("episode")) % 2);
  }
  await page.waitForFunction(() => document.querySelector(".step-through video")?.readyState >= 2);
  await page.locator(".thinking .bars").first().waitFor();

  const seen = () => page.locator(".seen dd").allInnerTexts();
  const filmAt = () => page.evaluate(() => document.querySelector(".step-through video").currentTime);
  const first = { seen: await seen(), at: await filmAt() };
  await page.getByRole("group", { name: /Steps of the episode/ }).focus();
  for (let i = 0; i < 5; i++) await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() => document.querySelector("output.step").textContent === "5");
  await page.waitForFunction((before) => document.querySelector(".step-through video").currentTime > before, first.at);
  const fifth = { seen: await seen(), names: await page.locator(".seen dt").allInnerTexts() };
  await page.locator(".player").scrollIntoViewIfNeeded();
  await shot(`${name}-step`);
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await page.waitForFunction(() => Number(document.querySelector("output.step").textContent) > 7);
  await page.getByRole("button", { name: "Pause", exact: true }).click().catch(() => undefined);
  const watchWide = await wide();

  await page.locator(".timeline button").first().click();
  const picked = await page.locator(".step-through h2").innerText();
  await page.getByRole("slider", { name: "Step" }).fill("3");
  await page.locator(".thinking .bars").first().waitFor();
  await page.getByRole("link", { name: "Try another observation" }).click();

  const bars = async () => (await page.locator("[aria-label=Decision] .bars output").allInnerTexts()).join();
  await page.locator("[aria-label=Decision] .bars").waitFor();
  const prefilled = new URLSearchParams(page.url().split("?")[1]).get("checkpoint");
  const choices = await page.locator("select option").allInnerTexts();
  await page.getByRole("combobox", { name: "Checkpoint" }).selectOption("best");
  await page.waitForTimeout(300);
  const before = await bars();
  let asked = 0;
  page.on("request", (request) => (asked += request.url().endsWith("/compute_action")));
  const slider = page.getByRole("slider", { name: "pole angle", exact: true });
  const began = Date.now();
  for (let i = 0; i < 40; i++) await slider.press("ArrowRight");
  await slider.fill(await slider.getAttribute("max"));
  const tookS = (Date.now() - began) / 1000;
  await page.waitForFunction((known) => [...document.querySelectorAll("[aria-label=Decision] .bars output")].map((each) => each.textContent).join() !== known, before);
  const after = await bars();
  await page.getByRole("button", { name: "Copy as curl" }).click();
  const command = await page.evaluate(() => navigator.clipboard.readText());
  await shot(`${name}-play`);
  findings.play = await accessibility(page);
  await page.goto(`${url}/#/play?run=${run}&checkpoint=best&of=${run}&episode=0&step=3`);
  await page.locator("[aria-label=Decision] .bars").waitFor();
  const recorded = await page.getByRole("spinbutton").first().inputValue();
  await page.getByRole("spinbutton").first().fill("1e39");
  await page.getByRole("spinbutton").first().press("Enter");
  ignore(/422/);
  await page.locator("[aria-label=Decision] [role=alert]").waitFor();
  const old = await page.locator("[aria-label=Decision] .action-taken").count();
  const named = [];
  for (const policy of ["balancer", "balancer@nope"]) {
    await page.goto(`${url}/#/play?policy=${policy}`);
    await page.locator("main a[href*='balancer'], main [role=alert]").first().waitFor();
    named.push(await page.locator("main").innerText());
  }
  const playWide = await wide();

  await page.goto(`${url}/#/runs/${plain}?tab=watch`);
  await page.getByRole("button", { name: "Film the best policy now" }).click();
  await page.waitForFunction(() => document.querySelector(".step-through video")?.readyState >= 2, undefined, { timeout: 120_000 });
  await shot(`${name}-filmed-now`);
  return { takes, choices, recorded, old, named, moments, first, fifth, picked, prefilled, before, after, rate: asked / tookS, command, findings, wide: [watchWide, playWide] };
});
