// The system while it works: what each worker runs, what waits and for what; it follows without being asked.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, running, waiting }, { shot, ignore, context }) => {
  ignore(/ERR_INTERNET_DISCONNECTED/);
  const told = {};
  const send = (path, method = "POST") => context.request.fetch(`${url}${path}`, { method });
  await page.goto(`${url}/#/system`);
  const worker = page.getByRole("article").first();
  await worker.getByText("a long run").waitFor();
  const row = page.getByRole("row", { name: /^train/ });
  await row.getByText("a free slot").waitFor();
  told.worker = await worker.textContent();
  told.row = await row.textContent();
  told.link = await worker.getByRole("link", { name: "a long run" }).getAttribute("href");
  told.health = await page.getByRole("region", { name: "Health" }).textContent();
  told.disk = await page.getByRole("region", { name: "Database and disk" }).textContent();
  told.findings = await accessibility(page);
  await shot("system");
  const away = page.getByText("The service does not answer");
  await context.setOffline(true);
  await away.waitFor();
  told.away = await worker.textContent();
  await context.setOffline(false);
  await away.waitFor({ state: "detached" });
  await send(`/v1/runs/${waiting}/cancel`);
  await send(`/v1/runs/${running}/cancel`);
  await worker.getByText("a long run").waitFor({ state: "detached" });
  await page.getByText("Nothing waits, and nothing runs.").waitFor();
  told.free = await worker.textContent();
  return told;
});
