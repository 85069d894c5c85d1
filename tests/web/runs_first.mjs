// A service without runs: the page says what to do, and one button trains the pole.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url }, { shot }) => {
  await page.goto(url);
  await page.getByRole("heading", { name: "No runs yet" }).waitFor();
  const findings = {};
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    findings[colorScheme] = await accessibility(page);
  }
  await shot("runs-first");
  const command = await page.locator("main pre").textContent();
  await page.getByRole("button", { name: "Train CartPole" }).click();
  await page.waitForFunction(() => location.hash.startsWith("#/runs/run_"));
  await page.goto(url);
  await page.locator("[data-id]").waitFor();
  return { findings, command, row: await page.locator("[data-id] .col-name").innerText() };
});
