// Signing in: a wrong token is told, the right one opens the page, stays out of the address and is forgotten at the end.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, token }, { shot, ignore, context }) => {
  ignore(/status of 401/);
  const addresses = [];
  page.on("request", (request) => addresses.push(request.url()));
  await page.goto(url);
  const field = page.getByLabel("Token");
  await field.fill("not-a-token");
  await page.getByRole("button", { name: "Sign in" }).click();
  const refused = await page.locator(".field-error").textContent();
  const findings = await accessibility(page);
  await shot("login");
  const forgotten = await page.evaluate(() => sessionStorage.length + localStorage.length);
  await field.fill("maze_\u2713_token");
  const unsendable = await page.locator(".field-error").textContent();
  const isStopped = await page.getByRole("button", { name: "Sign in" }).isDisabled();
  await field.fill(token);
  await page.getByRole("checkbox").check();
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("link", { name: "New run" }).waitFor();
  await page.reload();
  await page.getByRole("link", { name: "New run" }).waitFor();
  const other = await context.newPage();
  await other.goto(url);
  await other.getByRole("link", { name: "New run" }).waitFor();
  const told = addresses.filter((address) => address.includes(token)).length;
  await page.getByRole("button", { name: "Sign out" }).click();
  await field.waitFor();
  await other.getByLabel("Token").waitFor(); // it signed out as well
  return { refused, forgotten, unsendable, isStopped, told, findings, kept: await page.evaluate(() => sessionStorage.length + localStorage.length) };
});
