"""Settings tell their mistakes like a specification, and are pydantic's dataclasses in everything else."""

import copy
import dataclasses
import pickle

import pytest
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from maze_core.config.instantiate import instantiate
from maze_core.config.settings import dataclass
from maze_core.envs.wrappers import ObservationNormalizationWrapper, RewardClippingWrapper
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.evaluation.rollout_evaluator import RolloutEvaluator
from maze_core.models.config import FlattenConcatPolicyNetConfig, ProbabilisticPolicyComposerConfig
from maze_core.runners.config import TrainingRunnerConfig
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.config import ActorCriticConfig, FitConfig, RolloutEvaluatorConfig

EVALUATOR = "maze.train.trainers.common.evaluators.rollout_evaluator.RolloutEvaluator"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Inner:
    """Settings of a part."""

    size: int = Field(default=1, ge=1)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Outer:
    """Settings with a part."""

    inner: Inner = dataclasses.field(default_factory=Inner)
    parts: tuple[Inner, ...] = ()
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.rate == 13:
            raise ValueError("the rate is bad luck")


def problems(kind, **settings) -> dict[str, Problem]:
    with pytest.raises(InvalidSpecificationError) as caught:
        kind(**settings)
    return {problem.path: problem for problem in caught.value.problems}


def test_a_call_names_every_problem_with_path_and_suggestion():
    found = problems(Outer, rat=1.0, inner={"size": 0}, parts=[{"size": 1}, {"siez": 1}])
    assert {path: problem.code for path, problem in found.items()} == {
        "rat": "unknown_key",
        "inner.size": "out_of_range",
        "parts.1.siez": "unknown_key",
    }
    assert (found["rat"].did_you_mean, found["rat"].allowed) == ("rate", ("inner", "parts", "rate"))
    assert found["rat"].message == "Outer has no setting 'rat'."
    assert (found["parts.1.siez"].did_you_mean, found["parts.1.siez"].allowed) == ("size", ("size",))


def test_the_settings_of_training_and_of_networks_do_so():
    assert problems(ActorCriticConfig, lr=-1)["lr"].code == "out_of_range"
    found = problems(ActorCriticConfig, entropy_coeff=1)["entropy_coeff"]
    assert (found.did_you_mean, found.code) == ("entropy_coef", "unknown_key")
    assert problems(FlattenConcatPolicyNetConfig, non_lin="tahn")["non_lin"].did_you_mean == "tanh"
    assert problems(ProbabilisticPolicyComposerConfig, networks=[1, {}]).keys() == {
        "networks.0",
        "networks.1",
    }


def test_the_settings_of_algorithms_wrappers_and_runners_do_so():
    assert problems(A2CAlgorithmConfig, lr=-1)["lr"].code == "out_of_range"
    assert problems(A2CAlgorithmConfig, foo=1)["foo"].message == "A2CAlgorithmConfig has no setting 'foo'."
    found = problems(ObservationNormalizationWrapper, stratgy="mean_zero_std_one")["stratgy"]
    assert (found.code, found.did_you_mean) == ("unknown_key", "strategy")
    assert (
        "min_val must be below"
        in problems(RewardClippingWrapper, min_val=2.0)["RewardClippingWrapper"].message
    )
    assert problems(TrainingRunnerConfig, n_envs=2**40)["n_envs"].code == "out_of_range"


def test_a_check_of_the_whole_names_the_class():
    assert problems(Outer, rate=13)["Outer"].message == "the rate is bad luck."


@pytest.mark.parametrize("settings", [{"rate": "0.5"}, {"rate": True}, {"inner": {"size": "1"}}])
def test_text_is_never_read_as_a_number_nor_a_truth_value_as_one(settings):
    assert [problem.code for problem in problems(Outer, **settings).values()] == ["wrong_type"]


def test_settings_are_given_by_name():
    with pytest.raises(InvalidSpecificationError, match=r"by name, not 3: Inner\(name=value"):
        Inner(3)


def test_fields_replace_copies_and_pickles_are_those_of_a_dataclass():
    outer = Outer(inner={"size": 2}, rate=1)
    assert [field.name for field in dataclasses.fields(Outer)] == ["inner", "parts", "rate"]
    assert is_pydantic_dataclass(Outer)
    assert dataclasses.replace(outer, rate=2) == Outer(inner=Inner(size=2), rate=2.0)
    assert pickle.loads(pickle.dumps(outer)) == copy.deepcopy(outer) == outer
    with pytest.raises(InvalidSpecificationError):
        dataclasses.replace(outer, rate="fast")


def test_within_other_settings_and_adapters_pydantic_validates():
    assert TypeAdapter(Outer).validate_python({"inner": {"size": 3}}) == Outer(inner=Inner(size=3))
    with pytest.raises(ValidationError):
        TypeAdapter(Outer).validate_python({"inner": {"size": 0}})


def test_a_tree_names_the_place_of_the_settings():
    with pytest.raises(InvalidSpecificationError) as caught:
        instantiate({"_target_": f"{__name__}.Outer", "inner": {"size": 0}, "rate": "x"}, "top")
    assert {problem.path for problem in caught.value.problems} == {"top.inner.size", "top.rate"}


def test_a_derived_dataclass_of_the_standard_library_works():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Derived(Outer):
        note: str = ""

    assert Derived(note="x").inner == Inner()


# ---------------------------------------------------------------- the evaluator as the reference writes it


@pytest.mark.parametrize(
    "given",
    [
        {"n_episodes": 2},
        {"_target_": EVALUATOR, "n_episodes": 2},
        {"_target_": "RolloutEvaluatorConfig", "n_episodes": 2},
        {"_target_": EVALUATOR, "eval_env": None, "n_episodes": 2, "model_selection": None},
        {"eval_env": None, "n_episodes": 2, "model_selection": None},
    ],
)
def test_an_evaluator_is_taken_as_the_reference_writes_it(given):
    assert FitConfig(rollout_evaluator=given).rollout_evaluator == RolloutEvaluatorConfig(n_episodes=2)
    algorithm = {"_target_": "PPOAlgorithmConfig", "rollout_evaluator": given}
    assert instantiate(algorithm, "algorithm").rollout_evaluator == RolloutEvaluatorConfig(n_episodes=2)


@pytest.mark.parametrize("key", ["eval_env", "model_selection"])
@pytest.mark.parametrize("target", [{}, {"_target_": EVALUATOR}])
def test_what_training_has_by_itself_is_refused_where_it_is_not_null(key, target):
    given = {**target, "n_episodes": 2, key: "x"}
    assert problems(FitConfig, rollout_evaluator=given)[f"rollout_evaluator.{key}"].code == "contradiction"
    with pytest.raises(InvalidSpecificationError, match=rf"algorithm\.rollout_evaluator\.{key}: training"):
        instantiate({"_target_": "PPOAlgorithmConfig", "rollout_evaluator": given}, "algorithm")


def test_an_evaluator_object_is_refused_with_what_to_give():
    evaluator = RolloutEvaluator.__new__(RolloutEvaluator)
    evaluator.eval_env = None
    found = problems(FitConfig, rollout_evaluator=evaluator)["rollout_evaluator"]
    assert "call the RolloutEvaluator with rc.policy after training" in found.message


def test_another_component_is_no_evaluator():
    found = problems(FitConfig, rollout_evaluator={"_target_": "PPOAlgorithmConfig"})
    assert found["rollout_evaluator._target_"].code == "wrong_kind"
