"""Pictures of networks: every box and arrow is there, none lies on another, names are text."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from gymnasium import spaces
from torch import nn

from maze_core import InvalidSpecificationError, RunContext
from maze_core.models.block_config import BlockConfig
from maze_core.models.config import (
    CustomModelConfig,
    FlattenConcatPolicyNetConfig,
    ProbabilisticPolicyComposerConfig,
    SharedStateCriticConfig,
    StepStateCriticConfig,
    TemplateModelConfig,
)
from maze_core.models.drawing import drawing
from maze_core.models.template_config import ConcatModelBuilderConfig, ModalityConfig

SVG = "{http://www.w3.org/2000/svg}"
OBSERVATIONS = {
    "picture": spaces.Box(0, 255, (8, 8, 3), np.uint8),
    "a < b": spaces.Box(-1, 1, (3,), np.float32),
    "room": spaces.Discrete(4),
}
GRU = BlockConfig(block_type="gru", block_params={"hidden_size": 5})


def drawn(config, observations=OBSERVATIONS, n_steps: int = 1) -> ElementTree.Element:
    keys = range(n_steps)
    model = config.build(
        {key: spaces.Dict(observations) for key in keys},
        {key: spaces.Dict({"action": spaces.Discrete(3)}) for key in keys},
        dict.fromkeys(keys, 1),
        generator_seed=1,
    )
    return ElementTree.fromstring(drawing(model.policy, model.critic))


def template(critic=None, shared=None, recurrence=None) -> TemplateModelConfig:
    builder = ConcatModelBuilderConfig(
        modality_config=ModalityConfig(recurrence=recurrence), shared_embedding_keys=shared
    )
    return TemplateModelConfig(model_builder=builder, critic=critic)


def texts(svg: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}text")]


def boxes(svg: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    return [
        tuple(float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        for box in svg.iter(f"{SVG}rect")
        if box.get("class") == "b"
    ]


ALL = [
    pytest.param(template(StepStateCriticConfig(), recurrence=GRU), 1, id="memory"),
    pytest.param(template(StepStateCriticConfig(), ["latent"]), 2, id="shared, two sub-steps"),
    pytest.param(template(SharedStateCriticConfig()), 2, id="one critic for two sub-steps"),
    pytest.param(CustomModelConfig(), 1, id="dense"),
]


@pytest.mark.parametrize(("config", "n_steps"), ALL)
def test_boxes_lie_within_the_picture_and_not_on_each_other(config, n_steps: int):
    svg = drawn(config, n_steps=n_steps)
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    found = boxes(svg)
    assert len(found) > 4
    for x, y, w, h in found:
        assert min(x, y) >= 0
        assert (x + w <= width, y + h <= height) == (True, True)
    for (x, y, w, h), (x2, y2, w2, h2) in itertools.combinations(found, 2):
        assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_names_shapes_and_the_numbers_of_all_parameters_are_written():
    config = template(StepStateCriticConfig(), recurrence=GRU)
    svg = drawn(config)
    said = texts(svg)
    for text in (
        "policy · sub-step 0",
        "critic · sub-step 0",
        "picture",
        "[8, 8, 3]",
        "a < b",
        "state [5]",
        "action",
    ):
        assert text in said
    n = sum(int(n.replace(",", "")) for text in said for n in re.findall(r"([\d,]+) parameters", text))
    model = config.build(
        {0: spaces.Dict(OBSERVATIONS)},
        {0: spaces.Dict({"action": spaces.Discrete(3)})},
        {0: 1},
        generator_seed=1,
    )
    assert n == sum(array.size for part in (model.policy, model.critic) for array in part.parameters.values())


def test_every_box_that_reads_others_has_an_arrow_from_each():
    svg = drawn(CustomModelConfig(critic=None))
    arrows = [path for path in svg.iter(f"{SVG}path") if path.get("class") == "e"]
    # three inputs → side by side → two hidden layers → output → the head
    assert (len(boxes(svg)), len(arrows)) == (3 + 1 + 2 + 1 + 1, 3 + 1 + 1 + 1 + 1)


def test_what_policy_and_critic_share_is_drawn_once():
    said = texts(drawn(template(StepStateCriticConfig(), ["latent"])))
    assert "policy and critic · sub-step 0" in said
    assert not any(text.startswith("critic") for text in said)
    assert {"value", "action"} <= set(said)


class Own(nn.Module):
    def __init__(self, obs_shapes, action_logits_shapes) -> None:
        super().__init__()
        self.body = nn.Linear(3, 3)

    def forward(self, observations):
        return {"action": self.body(observations["a < b"])}


def test_a_module_of_the_users_is_a_box_with_its_parts():
    policy = ProbabilisticPolicyComposerConfig(networks=[Own])
    said = texts(drawn(CustomModelConfig(policy=policy, critic=None)))
    assert {"Own", "body: Linear · 12 parameters", "12 parameters"} <= set(said)


def test_a_context_draws_before_and_after_training(tmp_path):
    quick = {"algorithm.epoch_length": 1, "algorithm.n_rollout_steps": 4, "runner.n_envs": 2}
    with RunContext(run_dir=tmp_path, overrides=quick, seed=1, silent=True) as context:
        before = context.draw("net.svg")
        assert before == tmp_path / "net.svg"
        texts_before = texts(ElementTree.parse(before).getroot())
        context.train(1)
        context.draw(tmp_path / "after.svg")
    with RunContext.load(tmp_path) as loaded:
        loaded.draw("loaded.svg")
    for name in ("after", "loaded"):
        assert texts(ElementTree.parse(tmp_path / f"{name}.svg").getroot()) == texts_before


def test_what_cannot_be_drawn_is_said(tmp_path):
    with (
        RunContext(run_dir=tmp_path, seed=1, silent=True) as context,
        pytest.raises(InvalidSpecificationError, match=r"draws SVG; name a file like net\.svg"),
    ):
        context.draw("net.png")
    with (
        RunContext(run_dir=tmp_path / "plays", policy="random_policy", seed=1, silent=True) as context,
        pytest.raises(InvalidSpecificationError, match="has no networks to draw"),
    ):
        context.draw("net.svg")


def test_agents_with_networks_of_their_own_have_a_picture_each():
    policy = ProbabilisticPolicyComposerConfig(
        networks=[FlattenConcatPolicyNetConfig()], substeps_with_separate_agent_nets=[0]
    )
    model = CustomModelConfig(policy=policy, critic=None).build(
        {0: spaces.Dict(OBSERVATIONS)},
        {0: spaces.Dict({"action": spaces.Discrete(3)})},
        {0: 2},
        generator_seed=1,
    )
    said = texts(ElementTree.fromstring(drawing(model.policy, None)))
    assert {"policy · sub-step 0 · agent 0", "policy · sub-step 0 · agent 1"} <= set(said)
