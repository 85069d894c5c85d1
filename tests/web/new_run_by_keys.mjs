// The whole form without a pointer: every input is reached by Tab, sections open by Enter, and Enter at Train makes the run.
import { walk } from "./browser.mjs";

await walk(async (page, { url }, { ignore }) => {
  ignore(/status of 422/);
  await page.goto(`${url}/#/new`);
  await page.locator("[data-digest]").waitFor();
  await page.getByLabel("experiment", { exact: true }).selectOption("grid_search");
  await page.getByRole("button", { name: "Start a sweep of 6 runs" }).waitFor();
  await page.getByLabel("experiment", { exact: true }).selectOption("");
  await page.getByRole("button", { name: "Train", exact: true }).waitFor();
  const focused = () => page.evaluate(() => {
    const { activeElement: element } = document;
    return { id: element.id, tag: element.tagName, text: element.textContent.trim(), label: element.labels?.[0]?.textContent ?? "", isOpen: element.parentElement.open };
  });
  const typed = { environment: "CartPole-v1", n_epochs: "1", seed: "3", gamma: "0.9", n_envs: "4" };
  const reached = new Set();
  await page.getByRole("link", { name: "New run" }).focus();
  let at = await focused();
  for (let steps = 0; at.text !== "Train" && steps < 400; steps += 1) {
    await page.keyboard.press("Tab");
    at = await focused();
    if (at.tag === "SUMMARY" && !at.isOpen) await page.keyboard.press("Enter");
    if (["INPUT", "SELECT", "TEXTAREA"].includes(at.tag)) reached.add(at.id);
    if (typed[at.label] !== undefined) {
      await page.keyboard.type(typed[at.label]);
      delete typed[at.label];
    }
  }
  const inputs = await page.evaluate(() => [...document.querySelectorAll(".stack :is(input, select, textarea)")].map(({ id }) => id).filter(Boolean));
  await page.locator(".actions").getByText("This works").waitFor();
  const sent = page.waitForRequest((request) => new URL(request.url()).pathname === "/v1/train");
  await page.keyboard.press("Enter");
  const body = (await sent).postDataJSON();
  await page.waitForURL(/#\/runs\/run_/);
  return { missed: inputs.filter((id) => !reached.has(id)), n: inputs.length, left: Object.keys(typed), body };
});
