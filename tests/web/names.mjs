// Names that others chose, on a phone: long ones, those that turn the text around them, those that every object has, those
// that would lead elsewhere, and those of what is deleted while it is looked at.
import { walk } from "./browser.mjs";

/** Texts with a sign of direction that may turn something beside them. */
function turning(names) {
  const found = [];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!/[\u202a-\u202e]/.test(node.data) || parent.tagName === "OPTION") continue;
    const { display, unicodeBidi } = getComputedStyle(parent);
    const isApart = display.startsWith("inline") ? unicodeBidi === "isolate" : true;
    if (!isApart || !names.includes(node.data.trim()) || parent.childNodes.length !== 1) found.push(`${parent.outerHTML.slice(0, 80)} in ${parent.parentElement.tagName}`);
  }
  return found;
}

await walk(async (page, { url, views, names, missing, policy }, { shot, ignore }) => {
  ignore(/status of (404|422)/);
  const told = { sideways: {}, turning: {}, missing: [] };
  const settled = () => page.waitForFunction(() => document.querySelector("main :is(h1, [role=alert])") && !document.querySelector("main .spinner"));
  for (const [view, wait] of Object.entries(views)) {
    await page.goto(`${url}/#/${view}`);
    await settled();
    await page.locator(wait).first().waitFor();
    told.sideways[view] = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    told.turning[view] = await page.evaluate(`(${turning})(${JSON.stringify(names)})`);
    await shot(`names-${Object.keys(told.sideways).length}`);
  }
  for (const view of missing) {
    await page.goto("about:blank");
    await page.goto(`${url}/#/${view}`);
    told.missing.push(await page.locator("main [role=alert]").first().textContent());
  }
  await page.goto(`${url}/#/policies/${policy}`);
  await page.getByText("a very long note").waitFor();
  told.note = await page.locator("td .clamp").evaluate((element) => element.clientHeight);
  told.offered = await page.getByRole("button", { name: "Promote version 1" }).isVisible();
  await page.getByRole("button", { name: "Promote version 1" }).click();
  for (const path of ["versions/1", ""]) await fetch(`${url}/v1/policies/${policy}/${path}`.replace(/\/$/, ""), { method: "DELETE" });
  await page.locator("main [role=alert]").waitFor();
  told.gone = await page.locator("main").textContent();
  return told;
});
