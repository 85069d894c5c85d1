"""What is called after construction is checked at construction."""

from maze_core.config.compose import compose_run
from maze_core.config.instantiate import late_call_problem
from maze_core.errors import InvalidSpecificationError, Problem

HERE = __name__


def env_of_size(size):
    raise AssertionError("a check calls nothing")


def composer_of_width(action_spaces_dict, width):
    raise AssertionError("a check calls nothing")


def composer_of_anything(**given):
    raise AssertionError("a check calls nothing")


class ValueNet:
    def __init__(self, obs_shapes):
        raise AssertionError("a check calls nothing")


def problem(**arguments) -> Problem:
    try:
        compose_run(**arguments)
    except InvalidSpecificationError as error:
        (found,) = error.problems
        return found
    raise AssertionError("no problem was found")


def test_a_function_that_lacks_an_argument_is_refused_where_it_stands():
    for group in ("policy", "critic"):
        found = problem(**{group: {"_target_": f"{HERE}.composer_of_width"}})
        assert (found.path, found.code) == (f"model.{group}", "signature")
        assert "composer_of_width cannot be called with action_spaces_dict" in found.message
        assert "'width'" in found.message
    assert problem(model={"_target_": f"{HERE}.composer_of_width"}).path == "model"
    assert problem(env={"_target_": f"{HERE}.env_of_size"}).path == "env"


def test_a_function_with_all_its_arguments_is_taken():
    compose_run(policy={"_target_": f"{HERE}.composer_of_width", "width": 3})
    compose_run(critic={"_target_": f"{HERE}.composer_of_anything"})
    compose_run(env={"_target_": f"{HERE}.env_of_size", "size": 3})


def test_a_network_has_to_take_the_shapes_of_its_place():
    compose_run(critic={"networks": [{"_target_": f"{HERE}.ValueNet"}]})
    found = problem(policy={"networks": [{"_target_": f"{HERE}.ValueNet"}]})
    assert found.path == "model.policy.networks.0"
    assert "action_logits_shapes" in found.message


def test_objects_are_checked_like_what_is_named():
    assert problem(env=lambda size: None).path == "env.factory"
    assert problem(policy={"networks": [lambda width: None]}).path == "model.policy.networks.0"
    assert "env=lambda: env_of_size(…)" in problem(env=env_of_size).message
    compose_run(env=lambda size=3: None)


def test_what_is_not_called_later_or_does_not_tell_its_parameters_has_no_problem():
    assert late_call_problem(env_of_size, {}, "algorithm.schedule") is None
    assert late_call_problem(object(), {}, "env") is None
    assert late_call_problem(dict, {}, "model.policy.networks.0") is None
