// Runs: names of others stay text; what happens is seen within a second, also after the API was killed; many are
// changed at once, by the keyboard alone.
import { accessibility, walk } from "./browser.mjs";

const CARTPOLE = {
  algorithm: "ppo", model: "vector_obs", critic: "template_state", wrappers: "vector_obs",
  overrides: { "env.name": "CartPole-v1" }, seed: 1,
};

await walk(async (page, { url, api, names, label }, { shot, ignore, context }) => {
  const call = async (path, body) => (await fetch(url + path, body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).json();
  const long = (name) => call("/v1/train", { ...CARTPOLE, name, labels: { walk: "live" }, n_epochs: 100_000 });
  const row = (id) => page.locator(`[data-id="${id}"]`);
  const until = (id, state) => row(id).locator(`.state-${state}`).waitFor();
  const grid = page.getByRole("grid", { name: "Runs" });

  // names of others
  await page.goto(`${url}/#/runs?label=${encodeURIComponent(label)}`);
  await row(Object.keys(names)[0]).waitFor();
  const shown = {};
  for (const id of Object.keys(names)) shown[id] = await row(id).locator("a").textContent();
  const elements = await page.evaluate(() => [...document.querySelectorAll("main img, main script, main iframe")].length);
  const wide = {};
  for (const [name, width] of [["desktop", 1280], ["phone", 390]]) {
    await page.setViewportSize({ width, height: 844 });
    wide[name] = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await shot(`runs-hostile-${name}`);
  }
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.getByRole("searchbox").fill("nothing is called so");
  await page.getByRole("heading", { name: "No run fits" }).waitFor();
  await page.getByRole("button", { name: "Show all runs" }).click();

  // live, by the time between what happens and its sight
  await page.goto(`${url}/#/runs?label=walk%3Dlive`);
  await page.getByRole("heading", { name: "No run fits" }).waitFor();
  const runs = [];
  const seen = [];
  for (const name of ["a", "b", "c"]) {
    const run = await long(name);
    await row(run.id).waitFor();
    seen.push(Date.now() - Date.parse(run.created_at));
    runs.push(run.id);
  }
  await until(runs[0], "running");
  seen.push(Date.now() - Date.parse((await call(`/v1/runs/${runs[0]}`)).started_at));
  await row(runs[0]).getByText(/epoch [\d,]+ of 100,000/).waitFor();
  await row(runs[0]).locator(".col-latest").getByText("eval/mean_return").waitFor();
  await shot("runs-live");

  // in another order than the newest first, new ones are announced
  await page.getByLabel("Order").selectOption("name");
  await page.waitForFunction(() => document.querySelector('[aria-sort="ascending"]') && document.querySelectorAll("[data-id]").length === 3);
  runs.push((await long("0")).id);
  await page.getByRole("button", { name: "1 new" }).click();
  await row(runs[3]).waitFor();
  const address = new URL(page.url()).hash;
  const count = await page.locator(".status [role=status]").textContent();
  const sorted = await page.locator("[data-id] .col-name a").allTextContents();
  await page.getByLabel("Order").selectOption("");

  // no way to the service: said, what was there stays, and it goes on by itself
  ignore(/Failed to load resource|net::ERR/);
  await context.setOffline(true);
  await page.getByRole("searchbox").fill("b");
  await page.getByText("The service does not answer").waitFor();
  await shot("runs-offline");
  const kept = await row(runs[0]).count();
  await context.setOffline(false);
  await row(runs[0]).waitFor({ state: "detached" });
  await row(runs[1]).waitFor();
  await page.waitForFunction(() => !document.querySelector(".offline"));
  await page.getByRole("searchbox").fill("");

  // the API is killed, and its parent starts it again: what happens then is not missed
  process.kill(api, "SIGKILL");
  let late;
  while (!late) late = await long("late").catch(() => undefined);
  await row(late.id).waitFor();
  runs.push(late.id);
  const before = await row(runs[0]).locator(".col-progress").textContent();
  await page.waitForFunction(([id, text]) => document.querySelector(`[data-id="${id}"] .col-progress`)?.textContent !== text, [runs[0], before]);

  // all are cancelled at once, by the keyboard
  await grid.focus();
  for (const key of ["Home", "Space", "Shift+End"]) await page.keyboard.press(key);
  const selected = await page.getByText(/^\d+ selected$/).textContent();
  const findings = await accessibility(page);
  await page.emulateMedia({ colorScheme: "dark" });
  findings.push(...(await accessibility(page)));
  await shot("runs-dark");
  await shot("runs-selected");
  await page.getByRole("button", { name: "Label …" }).click();
  await page.getByRole("textbox", { name: "Key" }).fill("kept");
  await page.getByRole("textbox", { name: "Value" }).fill("yes");
  await page.getByRole("button", { name: "Set", exact: true }).click();
  for (const id of runs) await row(id).getByText("kept=yes").waitFor();
  await page.getByRole("button", { name: "Cancel", exact: true }).click();
  await page.getByRole("button", { name: "Cancel 5?" }).click();
  const outcome = await page.getByText(/cancelled or stopping/).textContent();
  for (const id of runs) await until(id, "cancelled");
  await page.getByRole("button", { name: "Dismiss" }).click();

  // one of those that are no more by somebody else's hand is told of by itself
  await fetch(`${url}/v1/runs/${runs[1]}`, { method: "DELETE" });
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByRole("button", { name: "Delete 5 for good?" }).click();
  await page.getByText("4 deleted, 1 not").waitFor();
  const told = await page.locator(".outcome li").allTextContents();
  await shot("runs-outcome");
  await page.goto(`${url}/#/runs?label=${encodeURIComponent(label)}`);
  await row(Object.keys(names)[0]).waitFor();
  await grid.focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => location.hash.startsWith("#/runs/run_"));
  const opened = new URL(page.url()).hash;
  return { shown, elements, wide, seen, sorted, kept, selected, findings, outcome, told, opened, address, count };
});
