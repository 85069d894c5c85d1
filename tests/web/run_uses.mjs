// What a run left and what is done with it: curves as they are chosen, files, a version of a policy, an evaluation.
import { readFileSync } from "node:fs";
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, run, policy }, { shot }) => {
  const button = (name) => page.getByRole("button", { name, exact: true });
  const plots = () => page.locator(".plot").evaluateAll((all) => all.map((each) => each.getAttribute("aria-label")));
  const downloaded = async (act) => {
    const [download] = await Promise.all([page.waitForEvent("download"), act()]);
    return { name: download.suggestedFilename(), bytes: readFileSync(await download.path()) };
  };
  const findings = {};

  await page.goto(`${url}/#/runs/${run}`);
  await page.locator(".plot").first().waitFor();
  const shownFirst = await page.locator(".charts h2").allTextContents();
  await page.getByText("Metrics (").click();
  await page.getByRole("checkbox", { name: "train/entropy", exact: true }).check();
  await page.getByRole("checkbox", { name: "train/value_loss", exact: true }).uncheck();
  await page.getByLabel("x axis").selectOption("epoch");
  await page.getByLabel("log scale").check();
  await page.getByRole("heading", { name: "train/entropy" }).scrollIntoViewIfNeeded();
  const chosen = await page.locator(".charts h2").allTextContents();
  findings.metrics = await accessibility(page);
  await shot("run-metrics");
  const csv = await downloaded(() => button("All as CSV").click());
  const png = await downloaded(() => button("PNG").first().click());
  const address = await page.evaluate(() => location.hash);
  await page.evaluate(() => localStorage.clear());
  await page.goto("about:blank");
  await page.goto(`${url}/${address}`);
  await page.locator(".plot").first().waitFor();
  const linked = await page.locator(".charts h2").allTextContents();
  const drawn = await plots();

  await page.locator(".u-over").first().click({ position: { x: 3, y: 40 } });
  await page.waitForFunction(() => location.hash.includes("tab=watch"));
  const watched = await page.evaluate(() => new URLSearchParams(location.hash.split("?")[1]).get("epoch"));
  await page.getByRole("tab", { name: "Configuration" }).click();
  const yaml = await downloaded(() => button("YAML").click());
  await page.getByText("Copy as curl").click();
  const copied = await page.locator("pre[data-copy=curl]").textContent();
  findings.copy = await accessibility(page);

  await page.getByRole("tab", { name: "Checkpoints" }).click();
  const best = page.locator("tr", { has: page.locator(".label", { hasText: "best" }) });
  const checkpoint = await downloaded(() => best.getByRole("button", { name: "Download" }).click());
  const playing = await best.getByRole("link", { name: "Act with it" }).getAttribute("href");
  await best.getByRole("button", { name: "Add to policy" }).click();
  await page.getByRole("dialog").getByLabel("Policy", { exact: true }).fill(policy);
  findings.policy = await accessibility(page);
  await button("Add").click();
  await page.waitForFunction((name) => location.hash === `#/policies/${name}`, policy);

  await page.goto(`${url}/#/runs/${run}?tab=checkpoints`);
  await best.getByRole("button", { name: "Evaluate" }).click();
  await page.getByRole("dialog").getByLabel("Episodes", { exact: true }).fill("2");
  await button("Evaluate").last().click();
  await page.waitForFunction((id) => !location.hash.includes(id), run);
  await page.locator(".run-header .state", { hasText: "succeeded" }).waitFor();
  await page.getByText("mean_return").first().waitFor();
  const evaluation = await page.evaluate(() => location.hash.split("/").pop());
  const result = await page.locator(".panel .facts").textContent();
  findings.result = await accessibility(page);
  await shot("run-result");
  await button("Delete").click();
  await button("Delete it with all it left").click();
  await page.waitForFunction(() => location.hash.startsWith("#/runs") && !location.hash.includes("run_"));
  const text = ({ name, bytes }) => ({ name, text: bytes.toString("utf8") });
  return {
    shownFirst, chosen, linked, drawn, watched, copied, playing, evaluation, result, findings, csv: text(csv), yaml: text(yaml),
    png: png.name, checkpoint: { name: checkpoint.name, size: checkpoint.bytes.length },
  };
});
