// What follows from a trained run, and what is written out: an evaluation, a stack of wrappers, another critic, a sweep.
import { accessibility, walk } from "./browser.mjs";

await walk(async (page, { url, run }, { shot, ignore }) => {
  ignore(/status of 422/);
  const bodies = {};
  page.on("request", (request) => {
    if (request.method() === "POST") bodies[new URL(request.url()).pathname] = request.postDataJSON();
  });
  const at = (key) => page.locator(`[data-key="${key}"]`);
  const section = (name) => page.locator("summary h2", { hasText: new RegExp(`^${name}$`) }).click();
  const findings = [];

  await page.goto(`${url}/#/new?from=${run}&kind=evaluate`);
  await at("n_episodes").getByRole("textbox").fill("0");
  await page.getByRole("button", { name: "Evaluate", exact: true }).click();
  const wrong = await at("n_episodes").locator(".field-error").textContent();
  await at("n_episodes").getByRole("textbox").fill("2");
  await shot("new-evaluation");
  findings.push(...(await accessibility(page)));
  await page.keyboard.press("Control+Enter");
  await page.waitForURL(/#\/runs\/run_/);

  await page.goto(`${url}/#/new`);
  await page.locator("[data-digest]").waitFor();
  await section("wrappers");
  await page.getByLabel("Add a wrapper").selectOption("maze_core.RewardScalingWrapper");
  await at("wrappers.RewardScalingWrapper.scale").getByRole("textbox").fill("0.5");
  await section("model");
  await page.locator(".fold > summary", { hasText: /^critic/ }).click();
  await at("model.critic").getByRole("combobox").selectOption("maze_core.SharedStateCriticConfig");
  await at("model.critic.networks").locator(".field-error", { hasText: "leaves the network to a template" }).waitFor();
  await at("model.critic.networks").getByRole("textbox").fill('[{"_target_": "maze_core.FlattenConcatStateValueNetConfig"}]');
  const search = page.getByLabel("Search all settings");
  await search.fill("policy.networks hidden_units");
  await at("model.policy.networks.0.hidden_units").getByRole("textbox").fill("16, 16");
  await search.fill("");
  await page.locator(".actions").getByText("This works").waitFor();
  await page.locator(".actions").getByText("Composing").waitFor({ state: "hidden" });
  await shot("new-run-stack");
  findings.push(...(await accessibility(page)));
  const composed = bodies["/v1/config/compose"];

  // the list of a setting stays one value where another has several
  await at("algorithm.n_epochs").getByRole("textbox").fill("1, 2");
  await page.getByRole("button", { name: "Start a sweep of 2 runs" }).click();
  await page.waitForURL(/#\/sweeps\/sweep_/);
  return { wrong, evaluated: bodies["/v1/evaluate"], composed, swept: bodies["/v1/sweeps"], findings };
});
