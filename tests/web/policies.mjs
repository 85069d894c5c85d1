// A policy by hand: made, given versions, promoted, stopped by its gate, led through it, refused as worse, rolled back.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, run, early, best, hostile }, { shot, ignore, context }) => {
  ignore(/status of (409|412)/);
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const button = (name, within = page) => within.getByRole("button", { name, exact: true });
  const dialog = page.getByRole("dialog");
  const gone = () => dialog.waitFor({ state: "detached" });
  const told = { dialogs: [] };
  const add = async (checkpoint, note) => {
    await button("Add a version").first().click();
    await dialog.getByLabel("Run", { exact: true }).selectOption(run);
    await dialog.locator(`option[value="${checkpoint}"]`).waitFor({ state: "attached" });
    await dialog.getByLabel("Checkpoint").selectOption(checkpoint);
    await dialog.getByLabel("Note").fill(note);
    told.dialogs.push(...(await accessibility(page)));
    await button("Add it", dialog).click();
    await gone();
  };

  const list = (address) => address.pathname === "/v1/policies";
  await page.route(list, (route) => route.fulfill({ json: { data: [], next_cursor: null } })); // others have some here
  await page.goto(`${url}/#/policies`);
  told.empty = await page.locator(".empty h2").textContent();
  await page.unroute(list);
  await button("New policy").click();
  await dialog.getByLabel("Name").fill("walker");
  await dialog.getByLabel("Description").fill(hostile);
  await button("Make it", dialog).click();
  await page.getByRole("heading", { name: "walker" }).waitFor();
  await add(early, "an early one");
  await add(best, "the best one");

  await page.getByRole("button", { name: "Promote version 1" }).click();
  await dialog.getByLabel("Alias").fill("champion");
  await button("Make it", dialog).click();
  await gone();
  const card = page.getByRole("article", { name: "Alias champion" });
  await card.getByText("version 1").waitFor();

  await button("Roll back", card).click();
  await dialog.getByText("none to go back to").waitFor();
  told.noWayBack = await button("Roll back", dialog).isDisabled();
  await button("Close", dialog).last().click();
  await gone();

  await button("Edit").click();
  await dialog.getByRole("checkbox").check();
  await dialog.getByLabel("Episodes of the comparison").fill("6");
  told.dialogs.push(...(await accessibility(page)));
  await button("Save", dialog).click();
  await gone();
  await page.getByText("Gate: before any alias moves").waitFor();

  await button("Move", card).click();
  await dialog.getByLabel("Version").selectOption("2");
  await dialog.getByLabel("Why").fill("it is better");
  await button("Move it", dialog).click();
  const gate = dialog.getByRole("region", { name: "The gate is closed" });
  await gate.waitFor();
  told.asked = await gate.textContent();
  told.closed = await accessibility(page);
  await shot("policy-gate");
  await button("Play the comparison, then move", gate).click();
  await dialog.waitFor({ state: "detached", timeout: 90_000 });
  await card.getByText("version 2").waitFor();

  await button("Move", card).click();
  await dialog.getByLabel("Version").selectOption("1");
  await button("Move it", dialog).click();
  await button("Play the comparison, then move", gate).click();
  await gate.getByText("is worse than version 2").waitFor({ timeout: 90_000 });
  told.worse = await gate.textContent();
  told.played = await gate.getByRole("link", { name: /^walker@champion/ }).count();
  await button("Close", dialog).last().click();
  await gone();

  await button("Roll back", card).click();
  await dialog.getByLabel("Why").fill("it falls over");
  told.dialogs.push(...(await accessibility(page)));
  await button("Roll back", dialog).click();
  await gone();
  await card.getByText("version 1").waitFor();
  await card.getByText("History").click();
  await card.locator(".history li").nth(2).waitFor();
  told.history = await card.locator(".history li").allTextContents();
  told.findings = await accessibility(page);
  told.tried = await page.getByRole("link", { name: "Try it" }).first().getAttribute("href");
  await shot("policy");
  told.shown = await page.locator("main").textContent();
  await button("Copy as curl", card).click();
  await button("Copied", card).waitFor();
  told.command = await page.evaluate(() => navigator.clipboard.readText());

  await button("Move", card).focus();
  await page.keyboard.press("Enter");
  await dialog.waitFor();
  await page.keyboard.press("Escape");
  await gone();
  await page.waitForFunction(() => document.activeElement !== document.body);
  told.focused = await page.evaluate(() => document.activeElement?.textContent);

  const other = (method, path, body, revision) => // somebody else, while a dialog is open here
    fetch(`${url}/v1/policies/walker${path}`, { method, body: JSON.stringify(body), headers: { "content-type": "application/json", ...(revision && { "if-match": revision }) } });
  await button("Move", card).click();
  await other("POST", "/aliases/champion/rollback", { to: 2 }, '"3"');
  await card.getByText("version 2").waitFor();
  await button("Move it", dialog).click();
  told.moved = await dialog.getByRole("alert").textContent();
  await button("Close", dialog).last().click();
  await gone();
  await button("Roll back", card).click();
  await other("POST", "/aliases/champion/rollback", { to: 1 }, '"4"');
  await other("POST", "/aliases/champion/rollback", { to: 2 }, '"5"');
  await button("Roll back", dialog).click();
  told.stale = await dialog.getByRole("alert").textContent();
  await dialog.getByLabel("To").selectOption("1");
  await button("Roll back", dialog).click();
  await gone();
  await card.getByText("version 1").waitFor();

  await button("Edit").click();
  await other("PATCH", "", { gate: { n_episodes: 7 } });
  await page.getByText("over 7 episodes").waitFor();
  await dialog.getByLabel("Description").fill("other words");
  await button("Save", dialog).click();
  await gone();
  await page.getByText("other words").waitFor();
  await button("Edit").click();
  await other("PATCH", "", { gate: null });
  await dialog.getByLabel("Episodes of the comparison").fill("9");
  await button("Save", dialog).click();
  told.clash = await dialog.getByRole("alert").textContent();
  await other("PATCH", "", { gate: { n_episodes: 7 } });
  await button("Close", dialog).last().click();
  await gone();

  await button("Add a version").click();
  await dialog.getByLabel("Find a run").fill("no such name");
  await dialog.getByText("None is called so").waitFor();
  told.outside = await dialog.getByLabel("Run", { exact: true }).locator("option").allTextContents();
  await dialog.getByLabel("Find a run").fill(run);
  await dialog.locator(`option[value="${run}"]`).waitFor({ state: "attached" });
  await button("Close", dialog).last().click();
  await gone();
  told.images = await page.locator("main img").count();

  await button("Delete", page.locator("tr", { hasText: "the best one" })).click();
  await button("Delete version 2?").click();
  await page.locator("tr", { hasText: "the best one" }).waitFor({ state: "detached" });
  await page.goto(`${url}/#/policies?q=ALK`);
  await page.getByRole("link", { name: "walker" }).waitFor();
  told.listed = await page.locator("tbody tr").textContent();
  return told;
});
