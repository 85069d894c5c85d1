// A sweep of a thousand trials, answered by the test in the service's place: what a pointer does is drawn within budget.
import { walk } from "./browser.mjs";

/** A parameter whose name is wider than its place. */
const LONG = `algorithm.${"very_".repeat(9)}long_name_of_target_kl`;

/** Milliseconds from what a pointer does until it is drawn, in the page: a part of the first axis, or another order. */
async function act(kind, turn) {
  const said = () => document.querySelector(kind === "brush" ? "section[aria-label=Trials] header [role=status]" : ".trials tbody").textContent;
  const before = said();
  const begin = performance.now();
  if (kind === "brush") {
    const reach = document.querySelector(".axis .reach");
    const box = reach.getBoundingClientRect();
    reach.setPointerCapture = () => undefined;
    const fire = (type, at) => reach.dispatchEvent(new PointerEvent(type, { bubbles: true, pointerId: 1, clientX: box.x + 16, clientY: box.y + box.height * at }));
    fire("pointerdown", 0.1);
    fire("pointermove", 0.4 + turn / 30);
    fire("pointerup", 0.4 + turn / 30);
  } else document.querySelectorAll("button.sort")[turn % 2 ? 0 : 2].click();
  while (said() === before) await new Promise(requestAnimationFrame);
  for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame); // lines are drawn behind the table
  return performance.now() - begin;
}

/** The quickest of a few tries: others work on the machine as well. */
async function quickest(page, kind) {
  const tries = [];
  for (let turn = 0; turn < 8; turn += 1) {
    tries.push(await page.evaluate(`(${act})("${kind}", ${turn})`));
    await page.waitForTimeout(100);
  }
  return Math.min(...tries);
}

await walk(async (page, { url, sweep, n }, { shot }) => {
  const jobs = Array.from({ length: n }, (_, number) => ({
    job: number, trial: number, state: "succeeded", value: (number * 61) % 500, run: `run_${number}`, reason: "completed", pruned_at: null,
    choices: { "algorithm.lr": 10 ** (-4 + (3 * ((number * 37) % n)) / n), "algorithm.clip_range": [0.1, 0.2][number % 2] },
  }));
  const answer = (body) => ({ status: 200, contentType: "application/json", body: JSON.stringify(body) });
  await page.route(`**/v1/sweeps/${sweep.id}`, (route) => route.fulfill(answer(sweep)));
  await page.route(`**/v1/sweeps/${sweep.id}/runs*`, (route) => {
    const from = Number(new URL(route.request().url()).searchParams.get("cursor") ?? 0);
    const next = from + 200 < jobs.length ? String(from + 200) : null;
    return route.fulfill(answer({ data: jobs.slice(from, from + 200), next_cursor: next, has_more: next !== null }));
  });
  await page.route(`**/v1/sweeps/${sweep.id}/importance`, (route) =>
    route.fulfill(answer({ evaluator: "fanova", n_trials: jobs.length, importance: { "algorithm.lr": 0.8, "algorithm.clip_range": 0.2 } })));
  await page.goto(`${url}/#/sweeps/${sweep.id}`);
  await page.locator(".trials tbody tr").first().waitFor();
  const said = () => page.locator("section[aria-label=Trials] header [role=status]").innerText();
  const brush = await quickest(page, "brush");
  const brushed = await said();
  await shot("sweep-crowd");
  const sort = await quickest(page, "sort");
  await page.getByRole("button", { name: "Show all again" }).click();
  const told = { brush, sort, brushed, rows: await page.locator(".trials tbody tr").count(), said: await said() };

  const made = [null, 0.1, null, 0.2, undefined].map((kl, trial) => ({ ...jobs[0], job: trial, trial, value: trial, choices: kl === undefined ? {} : { [LONG]: kl } }));
  jobs.splice(0, jobs.length, ...made);
  sweep.search = null;
  sweep.best = null;
  await page.reload();
  await page.getByRole("button", { name: LONG }).click();
  const cells = () => page.locator(".trials tbody td:nth-child(4)").allInnerTexts();
  const rising = await cells();
  await page.getByRole("button", { name: LONG }).click();
  const falling = await cells();
  const cut = await page.locator(".axis .name").evaluateAll((names) => names.filter((name) => {
    const [own, whole] = [name.getBoundingClientRect(), name.ownerSVGElement.getBoundingClientRect()];
    return own.left < whole.left || own.right > whole.right;
  }).map((name) => name.textContent));
  const dot = await page.locator(".axis .reach").last().evaluate((reach) => {
    const [own, canvas] = [reach.getBoundingClientRect(), document.querySelector(".parallel canvas")];
    const whole = canvas.getBoundingClientRect();
    const [x, y] = [own.x + own.width / 2 - whole.x, own.y - whole.y].map((at) => Math.round(at * devicePixelRatio));
    return canvas.getContext("2d").getImageData(x - 1, y + 1, 1, 1).data[3];
  });
  await shot("sweep-null");
  await page.getByText("Choose parts of the axes by number").click();
  await page.getByRole("slider", { name: `${LONG} to` }).press("Home");
  const nulls = await cells();
  return { ...told, rising, falling, cut, dot, nulls };
});
