// New run, as somebody fills it in: mistakes at their fields, suggestions taken, a run made once, by keys alone too.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, hostile }, { shot, ignore }) => {
  ignore(/status of (422|503)/);
  const posts = [];
  page.on("request", (request) => request.method() === "POST" && posts.push({ path: new URL(request.url()).pathname, body: request.postDataJSON(), key: request.headers()["idempotency-key"] }));
  const findings = [];
  const at = (key) => page.locator(`[data-key="${key}"]`);
  const works = () => page.locator(".actions").getByText("This works").waitFor();
  const open = async (address) => {
    await page.goto(`${url}/${address}`);
    await page.reload();
    await page.locator("[data-digest]").waitFor();
  };

  await open("#/new?env=CartPole-v1");
  const preselected = await page.getByLabel("environment", { exact: true }).inputValue();
  await shot("new-run");
  findings.push(...(await accessibility(page)));

  // what cannot be made says why
  const environment = page.getByLabel("environment", { exact: true });
  await environment.fill("ant");
  await page.getByRole("option", { name: "Ant-v5" }).waitFor();
  await shot("new-run-environments");
  findings.push(...(await accessibility(page)));
  await environment.fill("Ant-v5");
  const install = await page.locator(".warning").textContent();

  // by keys alone: the list, a value, the mistake at its field
  await environment.fill("cartpole");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  const picked = await environment.inputValue();
  await page.getByLabel("Search all settings").fill("algorithm.lr");
  await at("algorithm.lr").getByRole("textbox").fill("fast");
  await at("algorithm.lr").locator(".field-error").waitFor();
  const wrong = await at("algorithm.lr").locator(".field-error").textContent();
  await at("algorithm.lr").getByRole("textbox").fill("0.002");
  await works();
  await page.getByLabel("Search all settings").fill("");

  // what fails for now is tried again when the service says, and what it said is gone
  await page.route("**/v1/config/compose*", (route) => route.fulfill({ status: 503, headers: { "retry-after": "1" }, contentType: "application/problem+json", body: '{"code": "busy", "detail": "Busy for now."}' }), { times: 1 });
  await environment.fill(" Acrobot-v1 ");
  await page.getByRole("button", { name: "Try again" }).waitFor();
  await works();
  const isGone = (await page.getByText("Busy for now").count()) === 0;
  await environment.fill(picked);

  // an algorithm that learns from episodes asks for them, and wrappers that are refused are not offered
  await page.getByLabel("algorithm", { exact: true }).selectOption("bc");
  const asked = await at("dataset.run").locator(".field-error").textContent();
  await page.getByLabel("algorithm", { exact: true }).selectOption("");
  await works();
  const wrappers = await page.getByLabel("Add a wrapper").textContent();
  const hint = await at("algorithm.n_epochs").locator(".taken").textContent();

  // a word of another library, and its suggestion
  await page.locator("summary", { hasText: "Any other key" }).click();
  await page.getByLabel("key", { exact: true }).fill("algorithm.gama");
  await page.keyboard.press("Enter");
  await at("algorithm.gama").getByRole("textbox").fill("0.9");
  await at("algorithm.gama").getByRole("button", { name: "Use gamma" }).waitFor();
  await page.getByLabel("key", { exact: true }).fill(`algorithm.${hostile}`);
  await page.keyboard.press("Enter");
  await page.locator(".field-error", { hasText: "<img src=x onerror=alert(1)>" }).first().waitFor();
  await shot("new-run-mistakes");
  findings.push(...(await accessibility(page)));
  await page.getByLabel(`Put algorithm.${hostile} back`).click();
  await at("algorithm.gama").getByRole("button", { name: "Use gamma" }).click();
  await works();
  const gamma = await at("algorithm.gamma").getByRole("textbox").inputValue();
  await at("algorithm.gamma").getByRole("button", { name: "Put algorithm.gamma back" }).click();

  // several values are a sweep
  await page.getByLabel("seed", { exact: true }).fill("1, 2");
  await page.getByRole("button", { name: "Start a sweep of 2 runs" }).waitFor();
  await page.getByLabel("seed", { exact: true }).fill("1, -2");
  await page.getByRole("button", { name: "Start a sweep of several runs" }).waitFor();
  const unswept = await page.locator(".actions [role=status]").getByText("✕").textContent();
  await page.getByLabel("seed", { exact: true }).fill("1");
  await page.getByRole("button", { name: "Train", exact: true }).waitFor();

  // sent once, however often it is clicked
  await at("algorithm.n_epochs").getByRole("textbox").fill("1");
  await page.getByLabel("name", { exact: true }).fill(hostile);
  await page.getByLabel("labels", { exact: true }).fill("team=x\nteam=it's");
  const twice = await page.locator(".field-error", { hasText: "team is there twice" }).first().textContent();
  await page.keyboard.press("Control+Enter");
  const isHeld = await page.getByRole("button", { name: "Train", exact: true }).isDisabled();
  await page.getByLabel("labels", { exact: true }).fill("team=it's");
  await works();
  await page.waitForFunction(() => document.querySelector(".copy-as pre").textContent.includes("n_epochs"));
  const curl = await page.locator(".copy-as pre").textContent();
  const digest = await page.locator("[data-digest]").textContent();
  await page.getByRole("button", { name: "Train", exact: true }).dblclick();
  await page.waitForURL(/#\/runs\/run_/);
  const sent = posts.filter(({ path }) => path === "/v1/train");
  const run = decodeURIComponent(page.url().split("/runs/")[1]);

  // what was filled in is there on the way back; a new form is empty
  await page.goBack();
  const kept = await page.getByLabel("name", { exact: true }).inputValue();
  await page.goForward();
  await page.getByRole("link", { name: "New run", exact: true }).click();
  const anew = await page.getByLabel("name", { exact: true }).inputValue();

  // a run's own request fills the form again
  await open(`#/new?from=${run}`);
  const again = {
    digest: await page.locator("[data-digest]").textContent(),
    name: await page.getByLabel("name", { exact: true }).inputValue(),
    lr: await at("algorithm.lr").getByRole("textbox").inputValue(),
  };
  await page.setViewportSize({ width: 390, height: 844 });
  await shot("new-run-phone");
  findings.push(...(await accessibility(page)));
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  await page.setViewportSize({ width: 1280, height: 800 });

  // and a fork begins with its configuration, sent by the keyboard
  await open(`#/new?from=${run}&fork=1`);
  await page.getByLabel("Search all settings").fill("algorithm.gamma");
  await at("algorithm.gamma").getByRole("textbox").fill("0.5");
  await works();
  await page.getByLabel("Search all settings").fill("");
  await at("algorithm.n_epochs").getByRole("textbox").fill("1, 2");
  const several = await at("algorithm.n_epochs").locator(".field-error").textContent();
  await page.keyboard.press("Control+Enter");
  await at("algorithm.n_epochs").getByRole("button", { name: "Put algorithm.n_epochs back" }).click();
  await works();
  await page.evaluate(() => {
    // two in one task: the second comes before the button is drawn as disabled
    for (const _ of "12") document.querySelector(".new-run").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", ctrlKey: true, bubbles: true }));
  });
  await page.waitForURL((address) => /#\/runs\/run_/.test(address) && !address.href.includes(run));
  const forked = posts.filter(({ path }) => path.endsWith("/fork")).map(({ body }) => body);
  return { preselected, install, picked, wrong, gamma, curl, digest, run, again, width, forked, findings, isGone, asked, wrappers, hint, unswept, twice, isHeld, kept, anew, several,
    keys: [...new Set(sent.map(({ key }) => key))].length, sent: sent[0].body };
});
