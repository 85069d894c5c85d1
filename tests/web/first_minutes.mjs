// What a newcomer does: opens the page, presses the one button, sees the curve grow, the pole learnt, and its video.
import { walk } from "./browser.mjs";

await walk(async (page, { url }, { shot }) => {
  const began = Date.now();
  const steps = [];
  const done = (what) => steps.push([what, Date.now() - began]);
  await page.goto(url);
  const train = page.getByRole("button", { name: "Train CartPole" });
  await train.waitFor();
  done("the page is there, without runs");
  await shot("first-empty");
  await train.click();
  await page.waitForURL(/#\/runs\/run_/);
  await page.locator(".chart canvas").first().waitFor({ timeout: 60_000 });
  done("the first points of the curve");
  await shot("first-curve");
  await page.locator("h1 ~ .state-succeeded, .state-succeeded").first().waitFor({ timeout: 170_000 });
  done("the training has succeeded");
  const id = /run_\w+/.exec(page.url())[0];
  const run = await (await fetch(`${url}/v1/runs/${id}`)).json();
  await shot("first-learnt");
  await page.getByRole("tab", { name: "Watch" }).click();
  const video = page.locator("video").last();
  await video.waitFor({ timeout: 60_000 });
  await video.evaluate((element) => element.play());
  await page.waitForFunction(() => [...document.querySelectorAll("video")].some((each) => each.currentTime > 0.2));
  done("its video plays");
  await shot("first-video");
  return { steps, score: run.best?.value ?? 0 };
});
