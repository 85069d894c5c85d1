// One run from its first point to its fork: the curve grows while it is looked at, and every verb has its effect.
import { readFileSync } from "node:fs";
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, run, hostile }, { shot, ignore, context }) => {
  const state = (word) => page.locator(".run-header .state", { hasText: word }).waitFor();
  const button = (name) => page.getByRole("button", { name, exact: true });
  const points = async () => Number((await page.locator(".plot").first().getAttribute("aria-label")).match(/, ([\d,]+) points/)[1]);
  const findings = {};

  // points that come while the first answer is on its way are not lost
  await page.clock.install();
  const slowly = async (route) => {
    const response = await route.fetch();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await route.fulfill({ response });
  };
  await page.goto(`${url}/#/runs`);
  await page.locator(`[data-id="${run}"]`).waitFor();
  await page.route("**/metrics?*", slowly);
  await page.evaluate((id) => (location.hash = `#/runs/${id}?x=epoch&names=train%2Fentropy`), run);
  await page.locator(".plot").first().waitFor();
  await page.unroute("**/metrics?*", slowly);
  const saving = page.waitForEvent("download");
  await page.locator(".card").first().getByRole("button", { name: "CSV" }).click();
  const epochs = readFileSync(await (await saving).path(), "utf8").trim().split("\n").slice(1).map((line) => Number(line.split(",")[1]));
  const lost = epochs.slice(1).filter((epoch, place) => epoch !== epochs[place] + 1);

  const before = await points();
  await page.waitForFunction((least) => Number(document.querySelector(".plot").getAttribute("aria-label").match(/, (\d+) points/)[1]) > least, before + 2);
  const heading = await page.getByRole("heading", { level: 1 }).textContent();
  const injected = await page.locator("h1 b, .about img").count();
  await shot("run-running");
  findings.curves = await accessibility(page);

  const title = await page.title();
  await button("Pause").click();
  await state("paused");
  await button("Resume").click();
  await state("running");

  // somebody else changes the name while it is edited here
  await button("Edit name, labels, notes").click();
  await page.getByRole("dialog").getByLabel("Name", { exact: true }).fill("mine");
  const labels = page.getByRole("dialog").getByLabel("Labels", { exact: true });
  await labels.fill(`${await labels.inputValue()}\nhere=1`);
  await page.evaluate((id) => fetch(`/v1/runs/${id}`, { method: "PATCH", body: JSON.stringify({ name: "theirs", notes: "noted", labels: { there: "2" } }), headers: { "content-type": "application/json" } }), run);
  ignore(/status of 412/);
  await button("Save").click();
  const conflict = await page.locator("dialog .warning").textContent();
  findings.conflict = await accessibility(page);
  await button("Save mine all the same").click();
  await page.getByRole("heading", { level: 1, name: "mine" }).waitFor();

  // an impatient double click asks, and is no answer
  await button("Cancel").dblclick();
  const asked = await button("Really cancel").count();
  await button("Really cancel").click();
  await state("cancelled");
  await button("Continue …").click();
  await page.getByRole("dialog").getByLabel("Further epochs", { exact: true }).fill("1");
  await button("Continue").click();
  await page.waitForFunction((id) => !location.hash.includes(id), run);
  await state("succeeded");
  const continued = await page.evaluate(() => location.hash.split("/").pop());
  await button("Fork …").click();
  await page.getByRole("dialog").getByLabel("Name", { exact: true }).fill(hostile);
  await page.getByRole("dialog").getByLabel("Epochs", { exact: true }).fill("1");
  await page.getByRole("dialog").getByLabel("Changes", { exact: true }).fill("algorithm.gama = 0.9");
  ignore(/status of 422/);
  await button("Fork").click();
  const refused = await page.locator("dialog .error").textContent();
  await page.getByRole("dialog").getByLabel("Changes", { exact: true }).fill("algorithm.gamma = 0.9");
  await button("Fork").click();
  await page.waitForFunction((id) => !location.hash.includes(id), continued);
  await state("succeeded");
  const forked = await page.evaluate(() => location.hash.split("/").pop());

  for (const tab of ["Checkpoints", "Configuration", "History", "Log"]) {
    await page.getByRole("tab", { name: tab }).click();
    await page.waitForFunction(() => !document.querySelector("main .spinner"));
    findings[tab] = await accessibility(page);
    await shot(`run-${tab.toLowerCase()}`);
  }
  await page.getByRole("tab", { name: "Configuration" }).click();
  await page.getByLabel("Search").fill("gamma override");
  const config = await page.locator(".tree .leaf").allTextContents();

  // somebody else gives one another name, and deletes one: no event tells of that
  const elsewhere = async (method, id, body) => (await fetch(`${url}/v1/runs/${id}`, { method, headers: { "content-type": "application/json" }, ...(body && { body: JSON.stringify(body) }) })).json().catch(() => null);
  const child = await elsewhere("GET", forked);
  const list = await context.newPage();
  await list.goto(`${url}/#/runs`);
  await list.locator(`[data-id="${forked}"]`).waitFor();
  await elsewhere("PATCH", continued, { name: "renamed elsewhere" });
  await elsewhere("DELETE", forked);
  ignore(/status of 404/);
  await page.clock.fastForward(21_000);
  await page.getByRole("heading", { name: "This run was deleted" }).waitFor();
  const verbs = await page.locator(".verbs").count();
  await list.locator(`[data-id="${continued}"]`).getByText("renamed elsewhere").waitFor();
  await list.locator(`[data-id="${forked}"]`).waitFor({ state: "detached" });
  return { lost, verbs, title, gone: await page.title(), heading, injected, conflict, asked, refused, continued, child, config, findings };
});
