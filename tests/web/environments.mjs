// Environments: found by a part of the name, told what is missing and how to get it, looked at one by one.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url }, { shot, ignore }) => {
  ignore(/status of 404/);
  const told = {};
  const names = async () => (await page.locator("tbody th a").allTextContents()).map((name) => name.trim());
  await page.goto(`${url}/#/environments`);
  await page.locator("tbody tr").first().waitFor();
  told.first = (await page.locator("tbody tr").first().textContent()) ?? "";
  told.findings = await accessibility(page);
  await shot("environments");
  await page.getByLabel("Search").fill("cartpole v1");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length < 4);
  told.found = await names();
  told.address = new URL(page.url()).hash;
  await page.getByLabel("Search").fill("");
  await page.getByLabel("State").selectOption("missing");
  await page.getByText("pip install").first().waitFor();
  told.install = await page.locator("tbody code").first().textContent();
  told.trainable = (await names()).includes("CartPole-v1");
  await page.getByLabel("Search").fill("nothing like this");
  told.none = await page.locator(".empty h2").textContent();
  await page.getByRole("button", { name: "Show all" }).click();
  await page.getByRole("link", { name: "CartPole-v1", exact: true }).click();
  await page.getByRole("heading", { name: "CartPole-v1" }).waitFor();
  told.details = await page.locator("main").textContent();
  told.train = await page.getByRole("link", { name: "Train on it" }).getAttribute("href");
  told.detailFindings = await accessibility(page);
  await shot("environment");
  await page.goto(`${url}/#/environments/CartPol-v1`);
  told.unknown = await page.getByRole("alert").textContent();
  return told;
});
