// A run of very many points and a log of very many lines: how long the page takes to answer, best of several tries.
import { accessibility, walk } from "./browser.mjs";

const TRIES = 5;

await walk(async (page, { url, run, failed, diverged, live }, { shot, ignore }) => {
  const findings = {};
  const open = async (hash, selector) => {
    await page.goto(`${url}/#${hash}`);
    await page.locator(selector).first().waitFor();
    await page.waitForFunction(() => !document.querySelector("main .spinner"));
  };
  await open(`/runs/${run}?tab=curves`, ".plot canvas");
  // time from an input until the frame that shows its effect is through
  await page.evaluate(() => {
    globalThis.answer = async (act) => {
      const begin = performance.now();
      act();
      for (let frame = 0; frame < 2; frame += 1) await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
      return performance.now() - begin;
    };
    globalThis.mouse = (type, x) => {
      const over = document.querySelector(".u-over");
      const place = over.getBoundingClientRect();
      const at = { clientX: place.left + x * place.width, clientY: place.top + place.height / 2, bubbles: true, button: 0, buttons: 1, movementX: 9, view: window };
      const target = type === "mousemove" || type === "mousedown" || type === "mouseenter" ? over : document;
      target.dispatchEvent(new MouseEvent(type, at));
    };
  });
  const best = async (name, act, ...given) => {
    const times = [];
    for (let turn = 0; turn < TRIES; turn += 1) times.push(await page.evaluate(act, [turn, ...given]));
    return [name, Math.min(...times)];
  };
  const smooth = ([turn]) => answer(() => {
    const slider = document.querySelector("input[type=range]");
    slider.value = String(0.5 + turn / 20);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    slider.dispatchEvent(new Event("change", { bubbles: true }));
  });
  const times = [await best("smooth", smooth)];
  const hover = ([turn]) => answer(() => mouse("mousemove", 0.3 + turn / 10));
  times.push(await best("hover", hover));
  const label = () => page.locator(".plot").first().getAttribute("aria-label");
  const coarse = await label();
  const zoom = ([turn]) => {
    mouse("mousemove", 0.2);
    mouse("mousedown", 0.2);
    mouse("mousemove", 0.6);
    return answer(() => mouse("mouseup", 0.6));
  };
  times.push(await best("zoom", zoom));
  await page.waitForFunction((before) => document.querySelector(".plot").getAttribute("aria-label") !== before, coarse);
  const zoomed = await page.evaluate(() => new URLSearchParams(location.hash.split("?")[1]).get("zoom"));
  await shot("run-zoomed");
  findings.curves = await accessibility(page);
  const fine = await label();
  await page.reload();
  await page.locator(".plot canvas").first().waitFor();
  await page.waitForFunction((before) => document.querySelector(".plot")?.getAttribute("aria-label") === before, fine);
  const kept = await page.evaluate(() => new URLSearchParams(location.hash.split("?")[1]).get("zoom"));

  await open(`/runs/${run}?tab=curves&x=epoch&zoom=9000000..9000001`, ".bare");
  const bare = await page.locator(".bare").first().textContent();
  findings.bare = await accessibility(page);
  await shot("run-bare");
  await page.locator(".bare button").first().click();
  await page.waitForFunction(() => !document.querySelector(".bare") && !location.hash.includes("zoom"));

  await open(`/runs/${run}?tab=log`, ".log-row");
  const lastLine = await page.locator(".log-row").last().textContent();
  while (await page.getByRole("button", { name: /Load earlier/ }).count()) {
    const said = await page.getByRole("button", { name: /Load earlier/ }).textContent();
    await page.getByRole("button", { name: /Load earlier/ }).click();
    await page.waitForFunction((before) => ![...document.querySelectorAll("button")].some((each) => each.textContent === before), said);
  }
  const rows = await page.locator(".log-row").count();
  const scroll = ([turn]) => answer(() => (document.querySelector(".log").scrollTop = (turn + 1) * 90_000));
  await page.evaluate(() => (globalThis.answer = async (act) => {
    const begin = performance.now();
    act();
    for (let frame = 0; frame < 2; frame += 1) await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    return performance.now() - begin;
  }));
  times.push(await best("scroll the log", scroll));
  const search = ([turn]) => answer(() => {
    const field = document.querySelector("input[type=search]");
    field.value = `line ${1000 + turn}`;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  });
  times.push(await best("search the log", search));
  const found = await page.locator(".log-row").allTextContents();
  findings.log = await accessibility(page);
  await shot("run-log-large");

  await open(`/runs/${live}?tab=log`, ".log-row");
  const heard = await page.locator(".log-row").last().textContent();
  await page.waitForFunction((before) => [...document.querySelectorAll(".log-row")].at(-1).textContent !== before, heard);
  const isAtEnd = await page.evaluate(() => {
    const log = document.querySelector(".log");
    return log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
  });

  await open(`/runs/${failed}`, ".error");
  const failure = await page.locator(".error").textContent();
  const verbs = await page.locator(".verbs button").allTextContents();
  findings.failed = await accessibility(page);
  ignore(/status of 4\d\d/);
  await page.getByRole("button", { name: "Retry" }).click();
  const refusal = await page.locator(".verbs .inline-error").textContent();
  await shot("run-failed");
  await page.getByRole("link", { name: "See the end of the log" }).click();
  await page.locator(".log-row").first().waitFor();
  const traceback = await page.locator(".log-row").allTextContents();
  await open(`/runs/${diverged}`, ".error");
  const forGood = {
    failure: await page.locator(".error").textContent(),
    verbs: await page.locator(".verbs button").allTextContents(),
    empty: await page.locator(".panel h2").allTextContents(),
    labels: await page.locator(".labels .label").count(),
    more: await page.locator(".labels button").textContent(),
    height: Math.max(...(await page.locator(".labels .label").evaluateAll((all) => all.map((each) => each.offsetHeight)))),
  };
  await shot("run-diverged");
  await page.locator(".labels button").click();
  forGood.all = await page.locator(".labels .label").count();
  findings.forGood = await accessibility(page);
  return { bare, forGood, times: Object.fromEntries(times), coarse, fine, zoomed, kept, lastLine, rows, found, isAtEnd, failure, verbs, refusal, traceback, findings };
});
