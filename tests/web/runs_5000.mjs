// 5,000 runs in the list: what the first view costs, and how long the page's thread is held by what its reader does.
import { accessibility, walk } from "./browser.mjs";

const TRIES = 5;

await walk(async (page, { url, n }, { shot, context, browser }) => {
  const first = [];
  for (let turn = 0; turn < TRIES; turn += 1) first.push(await firstView(browser, url));

  await page.goto(url);
  await page.locator("[data-id]").first().waitFor();
  const all = async () => {
    for (;;) {
      const known = await page.evaluate(() => {
        const grid = document.querySelector("[role=grid]");
        grid.scrollTop = grid.scrollHeight;
        return Number(grid.getAttribute("aria-rowcount"));
      });
      if (known > 0) return known - 1;
      await page.waitForTimeout(50);
    }
  };
  const loaded = await all();
  await page.evaluate(measuring);
  const measured = {};
  const measure = async (name, act, wait = 400) => {
    const tries = [];
    for (let turn = 0; turn < TRIES; turn += 1) tries.push(await page.evaluate(`measured(${act}, ${wait}, ${turn})`));
    measured[name] = tries;
  };
  const grid = `document.querySelector("[role=grid]")`;
  await measure("scroll to the middle", `(turn) => { ${grid}.scrollTop = ${grid}.scrollHeight / 2 + turn * 1000 }`);
  const middle = await page.evaluate(() => {
    const grid = document.querySelector("[role=grid]").getBoundingClientRect();
    const row = document.elementFromPoint(grid.x + 300, grid.y + grid.height / 2).closest("[data-id]");
    return Number(row?.getAttribute("aria-rowindex"));
  });
  await shot("runs-5000-middle");
  await measure("scroll to the end", `(turn) => { ${grid}.scrollTop = ${grid}.scrollHeight - turn * 1000 }`);
  await measure("scroll through", `() => new Promise((done) => { let left = 10; const step = () => { ${grid}.scrollTop -= 700; left -= 1; left ? requestAnimationFrame(step) : done() }; step() })`);
  const rows = await page.locator("[data-id]").count();
  await page.evaluate(`${grid}.scrollTop = 0`);
  await page.locator('[aria-rowindex="2"] .select input').click();
  await page.evaluate(`${grid}.scrollTop = 94 * 48`);
  await page.locator('[aria-rowindex="101"]').waitFor();
  await measure("select 100", `() => document.querySelector('[aria-rowindex="101"] .select').dispatchEvent(new MouseEvent("click", { bubbles: true, shiftKey: true }))`);
  const selected = await page.getByText(/^[\d,]+ selected$/).textContent();
  await shot("runs-5000-selected");
  await measure("select all", `(turn) => document.querySelector('.table-head input').click()`);
  await page.keyboard.press("Escape");

  await page.evaluate(`${grid}.scrollTop = 0`);
  await measure("a run appears", `(turn) => fetch("/v1/train", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ name: "new " + turn, n_epochs: 2 }) })`, 2500);
  await page.getByText(`new ${TRIES - 1}`).waitFor();
  const search = page.getByRole("searchbox");
  measured["type in the search"] = [];
  for (const letter of ["c", "p", "1"]) {
    await search.focus();
    await page.evaluate("begin()");
    await page.keyboard.type(letter);
    await page.waitForTimeout(1200);
    measured["type in the search"].push(await page.evaluate("ended()"));
    await search.fill("");
    await page.waitForTimeout(400);
    await all();
  }
  const findings = await accessibility(page);
  return { first, loaded, measured, middle, rows, selected, findings, elements: await page.evaluate(() => document.querySelectorAll("*").length) };
});

/** Bytes over the wire and milliseconds from navigation until rows are painted, with an empty cache. */
async function firstView(browser, url) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  let size = 0;
  await session.send("Network.enable");
  session.on("Network.loadingFinished", ({ encodedDataLength }) => (size += encodedDataLength));
  await page.addInitScript(() => {
    new MutationObserver((_, observer) => {
      if (!document.querySelector("[data-id]")) return;
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => (window.paintedAt = performance.now())));
    }).observe(document, { childList: true, subtree: true });
  });
  await page.goto(url);
  const ms = await (await page.waitForFunction(() => window.paintedAt)).jsonValue();
  const now = size;
  await context.close();
  return { ms, kb: now / 1000 };
}

/** In the page: `measured(act)` → the longest task, the longest interaction and the time to the next paint, in ms. */
function measuring() {
  let tasks = [];
  let events = [];
  new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask" });
  new PerformanceObserver((list) => events.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: "event", durationThreshold: 16 });
  window.begin = () => {
    tasks = [];
    events = [];
  };
  window.ended = () => ({ task: Math.max(0, ...tasks), event: Math.max(0, ...events) });
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now()))));
  window.measured = async (act, wait, turn) => {
    await new Promise((done) => setTimeout(done, 150));
    window.begin();
    const began = performance.now();
    const acted = act(turn);
    const paint = (await painted()) - began;
    await acted;
    await new Promise((done) => setTimeout(done, wait));
    return { ...window.ended(), paint };
  };
}
