"""What a training takes from elsewhere: found by place, known by digest, checked when it begins."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from maze_core import RunContext
from maze_core.checkpoint import Checkpoint
from maze_core.errors import InvalidSpecificationError
from maze_core.runners.sources import DatasetConfig
from tests.maze_core.envs.structured_env import BoxesEnv
from tests.maze_core.rollout.small_policies import BoxesPolicy

QUICK = {"configuration": "test", "seed": 1}


def context(folder, algorithm, more=(), **given):
    return RunContext(folder, algorithm=algorithm, overrides=dict(more), **{**QUICK, **given})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A trained run with two saved rollouts of two and one episodes."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    with context(folder, "ppo") as teacher:
        teacher.train()
        reports = [teacher.rollout(n, seed=n, save=True) for n in (2, 1)]
    return folder, [report.saved_to for report in reports], reports


def digest(run):
    return RunContext(algorithm="bc", overrides={"dataset.run": run}, **QUICK).config["dataset"]["sha256"]


def refused(match, **given):
    with pytest.raises(InvalidSpecificationError, match=match) as caught:
        RunContext(**{**QUICK, **given})
    return caught.value.problems[0]


class TestDataset:
    def test_a_file_a_rollout_a_run_and_a_list_are_known_by_their_episodes(self, recorded, tmp_path):
        folder, (first, second), (report, _) = recorded
        copied = shutil.copytree(first, tmp_path / "elsewhere")
        trajectories = [episode.trajectory for episode in report.episodes]
        same = {digest(x) for x in (first, str(first), copied, copied / "trajectories", trajectories)}
        assert len(same) == 1
        file = first / "trajectories" / "episode-00000.safetensors"
        assert digest(file) == digest(trajectories[:1])
        assert len({*same, digest(second), digest(folder), digest(file), digest(trajectories[::-1])}) == 5

    def test_a_file_of_episodes_and_a_set_of_minari_are_known_by_the_same_digest(
        self, recorded, tmp_path, monkeypatch
    ):
        from maze_core import load_episodes, save_episodes

        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
        folder, (first, _), (report, _) = recorded
        places = [tmp_path / "x.parquet", tmp_path / "x.npz", "minari:our-sets/pole-v0"]
        with RunContext.load(folder) as teacher:
            for place in places:
                save_episodes(place, teacher.recorded(report))
        assert {digest(place) for place in places} == {digest(first)}
        ends = set()
        for i, place in enumerate((*places, first)):
            with context(tmp_path / f"clone-{i}", "bc", {"dataset.run": str(place)}) as clone:
                ends.add(clone.train(1).content_sha256)
        assert len(ends) == 1
        save_episodes(places[0], load_episodes(folder))
        with pytest.raises(InvalidSpecificationError, match="is no longer what it was"):
            context(None, "bc", {"dataset.run": places[0], "dataset.sha256": digest(first)})
        places[1].write_bytes(b"nothing")
        assert refused(r"x\.npz holds no recorded", algorithm="bc", overrides={"dataset.run": places[1]})

    def test_the_identity_of_a_run_has_the_digest_and_no_place(self, recorded):
        _, (first, _), (report, _) = recorded
        trajectories = [episode.trajectory for episode in report.episodes]
        by_path, by_list = (
            RunContext(algorithm="bc", overrides={"dataset.run": run}, **QUICK)
            for run in (first, trajectories)
        )
        assert by_path.config_sha256 == by_list.config_sha256
        assert by_path.config["dataset"]["run"] == str(first)
        assert by_path.undescribed == {}
        assert by_list.undescribed == {"dataset.run": "builtins.list"}
        other = RunContext(algorithm="bc", overrides={"dataset.run": trajectories[:1]}, **QUICK)
        assert other.config_sha256 != by_path.config_sha256
        assert "dataset" not in RunContext(**QUICK).config
        again = RunContext.from_config(by_path.config)
        assert again.config_sha256 == by_path.config_sha256

    def test_a_run_goes_on_exactly_from_its_directory_and_from_a_checkpoint(self, recorded, tmp_path):
        _, (first, _), _ = recorded
        overrides = {"dataset.run": first, "algorithm.n_epochs": 4}
        with context(tmp_path / "whole", "bc", overrides) as whole:
            expected = whole.train().content_sha256
        with context(tmp_path / "halves", "bc", overrides) as half:
            half.train(2)
            half.save(tmp_path / "half.ckpt", "last")
        with RunContext.load(tmp_path / "halves") as rest:
            assert rest.train(2).content_sha256 == expected
        with RunContext.load(tmp_path / "half.ckpt") as rest:
            assert rest.train(2).content_sha256 == expected
        with context(tmp_path / "halves", "bc", overrides) as done:
            assert done.report is not None

    def test_what_changed_meanwhile_is_refused(self, recorded, tmp_path):
        _, (first, second), _ = recorded
        data = shutil.copytree(first, tmp_path / "data")
        with context(tmp_path / "run", "bc", {"dataset.run": data}) as run:
            run.train(1)
        changed = context(tmp_path / "other", "bc", {"dataset.run": data})
        (data / "trajectories" / "episode-00001.safetensors").unlink()
        with pytest.raises(InvalidSpecificationError, match="is no longer what it was"):
            changed.train()
        with pytest.raises(InvalidSpecificationError, match="is no longer what it was"):
            RunContext.load(tmp_path / "run").train()
        refused(
            "another configuration: dataset.sha256",
            run_dir=tmp_path / "run",
            algorithm="bc",
            overrides={"dataset.run": second},
        )
        shutil.rmtree(data)
        with pytest.raises(InvalidSpecificationError, match="does not exist"):
            RunContext.load(tmp_path / "run").train()

    def test_what_is_checked_is_what_is_learnt_from(self, recorded, tmp_path, monkeypatch):
        """Another episode takes the place of the first one as soon as that was read."""
        _, (first, second), (report, _) = recorded
        data = shutil.copytree(first, tmp_path / "data")
        named = DatasetConfig(run=str(data)).located()
        read = Path.read_bytes

        def overtaken(path):
            found = read(path)
            if path.is_relative_to(data):
                shutil.copy(second / "trajectories" / "episode-00000.safetensors", path)
            return found

        monkeypatch.setattr(Path, "read_bytes", overtaken)
        learnt = [episode.content_sha256 for episode in named.load().values()]
        assert learnt == [episode.trajectory.content_sha256 for episode in report.episodes]
        with pytest.raises(InvalidSpecificationError, match="is no longer what it was"):
            named.load()

    def test_a_list_has_to_be_given_again(self, recorded, tmp_path):
        _, _, (report, _) = recorded
        trajectories = [episode.trajectory for episode in report.episodes]
        with context(tmp_path / "run", "bc", {"dataset.run": trajectories}) as run:
            run.train(1)
            config = run.config
        with pytest.raises(InvalidSpecificationError, match=r"dataset.run: .*passed again"):
            RunContext.load(tmp_path / "run").train()
        with context(tmp_path / "run", "bc", {"dataset.run": trajectories}) as run:
            run.train(1)
        with pytest.raises(InvalidSpecificationError, match=r"pass dataset.run again"):
            RunContext.from_config(config)
        assert RunContext.from_config(config, overrides={"dataset.run": trajectories}).config == config
        recorded_only = {**config, "dataset": {**config["dataset"], "run": None}}
        with pytest.raises(InvalidSpecificationError, match="has to be named again"):
            RunContext.from_config(recorded_only)

    def test_what_holds_no_episodes_is_told_at_once(self, tmp_path):
        problem = refused(
            "holds no recorded episodes.*save=True", algorithm="bc", overrides={"dataset.run": tmp_path}
        )
        assert problem.path == "dataset.run"
        refused("does not exist", algorithm="bc", overrides={"dataset.run": tmp_path / "nothing"})
        (tmp_path / "episode.pkl").write_bytes(pickle.dumps([1]))
        refused(
            "episode.pkl is a pickle, which may run any code",
            algorithm="bc",
            overrides={"dataset.run": tmp_path},
        )
        with pytest.raises(InvalidSpecificationError, match=r"episode.pkl: These bytes are no recorded"):
            context(tmp_path / "run", "bc", {"dataset.run": tmp_path / "episode.pkl"}).train()
        refused(
            "takes where episodes were recorded, or a list of Trajectory, not 3",
            algorithm="bc",
            overrides={"dataset.run": 3},
        )

    def test_it_belongs_to_what_learns_from_it(self, recorded):
        _, (first, _), _ = recorded
        assert refused("learns from recorded episodes", algorithm="bc").path == "dataset.run"
        refused("learns from none: take bc or sacfd", algorithm="ppo", overrides={"dataset.run": first})
        refused("one by one", overrides={"dataset": str(first)}, algorithm="bc")

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"n_epochs": None, "max_env_steps": 1000}, "nothing is played to learn: set n_epochs"),
            (
                {"patience": 2, "rollout_evaluator": None, "validation_percentage": 0},
                "patience has nothing to judge by: set rollout_evaluator.n_episodes or validation_percentage",
            ),
        ],
    )
    def test_what_would_never_end_a_clone_is_refused(self, recorded, settings, message):
        given = {"dataset.run": recorded[0], **{f"algorithm.{name}": x for name, x in settings.items()}}
        refused(message, algorithm="bc", overrides=given)
        if "patience" in settings:
            for enough in ({"rollout_evaluator": {"n_episodes": 1}}, {"validation_percentage": 20.0}):
                more = {f"algorithm.{name}": x for name, x in enough.items()}
                RunContext(algorithm="bc", overrides={**given, **more}, **QUICK)

    def test_rewards_of_a_running_scale_are_refused_where_recorded_ones_are_learnt_from(self, tmp_path):
        pendulum = {"env.name": "Pendulum-v1", "env.max_episode_steps": 20}
        played = RunContext(policy="random_policy", overrides=pendulum, seed=1).rollout(
            3, save=tmp_path / "data"
        )
        given = {**pendulum, "dataset.run": played.saved_to}
        running = {"RewardNormalizationWrapper": {}}
        with pytest.raises(
            InvalidSpecificationError, match=r"RewardNormalizationWrapper.*take RewardScalingW"
        ) as caught:
            context(tmp_path / "sacfd", "sacfd", given, wrappers=running).train()
        assert caught.value.problems[0].path == "wrappers"
        with context(tmp_path / "bc", "bc", given, wrappers=running) as clone:
            clone.train(1)

    def test_episodes_of_another_environment_are_told_by_their_file(self, recorded, tmp_path):
        _, (first, _), _ = recorded
        other = {"dataset.run": first, "env.name": "Acrobot-v1"}
        with pytest.raises(InvalidSpecificationError, match=r"episode-00000.safetensors.* does not fit Box"):
            context(tmp_path, "bc", other).train()

    def test_statistics_of_observations_are_those_of_the_episodes(self, recorded, tmp_path):
        _, (first, _), (report, _) = recorded
        with context(tmp_path, "bc", {"dataset.run": first}, wrappers="vector_obs") as run:
            run.train(1)
            seen = np.concatenate(
                [episode.trajectory.observations[0]["observation"] for episode in report.episodes]
            )
            wrapper = run.policy.wrappers[0]
            shown, _ = wrapper.observation(0, {"observation": seen}, None)
        np.testing.assert_allclose(shown["observation"].mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(shown["observation"].std(0), 1, atol=1e-3)


class TestInitial:
    def test_a_training_begins_with_the_policy_of_another(self, recorded, tmp_path):
        folder, _, _ = recorded
        with context(tmp_path / "next", "a2c", {"initial.run": folder, "algorithm.lr": 1e-12}) as tuned:
            tuned.train(1)
            weights = tuned.policy.policy.parameters
            for name, array in RunContext.load(folder).policy.policy.parameters.items():
                np.testing.assert_allclose(weights[name], array, atol=1e-9)
        source = Checkpoint.read(folder / "checkpoints" / "best.ckpt")
        initial = yaml.safe_load((tmp_path / "next" / "config.yaml").read_text())["config"]["initial"]
        assert initial == {
            "_target_": "maze_core.InitialConfig",
            "run": str(folder),
            "checkpoint": "best",
            "sha256": source.content_sha256,
        }

    def test_its_identity_is_what_the_checkpoint_holds(self, recorded, tmp_path):
        folder, _, _ = recorded
        file = RunContext.load(folder).save(tmp_path / "a.ckpt")
        by_run, by_file = (RunContext(overrides={"initial.run": run}, **QUICK) for run in (folder, file))
        last = RunContext(overrides={"initial.run": folder, "initial.checkpoint": "epoch:1"}, **QUICK)
        assert by_run.config_sha256 == by_file.config_sha256
        assert len({by_run.config_sha256, last.config_sha256, RunContext(**QUICK).config_sha256}) == 3
        assert RunContext.from_config(by_run.config).config_sha256 == by_run.config_sha256
        refused("no checkpoint", overrides={"initial.run": tmp_path})
        refused("takes a run, its directory or a checkpoint file, not 3", overrides={"initial.run": 3})

    def test_a_run_that_goes_on_needs_it_no_more(self, recorded, tmp_path):
        folder, _, _ = recorded
        source = shutil.copytree(folder, tmp_path / "source")
        with context(tmp_path / "whole", "ppo", {"initial.run": source, "algorithm.n_epochs": 4}) as whole:
            expected = whole.train().content_sha256
        with context(tmp_path / "half", "ppo", {"initial.run": source, "algorithm.n_epochs": 4}) as half:
            half.train(2)
        shutil.rmtree(source)
        with RunContext.load(tmp_path / "half") as rest:
            assert rest.train(2).content_sha256 == expected

    def test_statistics_of_what_it_saw_come_along(self, recorded, tmp_path):
        with context(tmp_path / "first", "ppo", wrappers="vector_obs") as first:
            first.train(1)
            theirs = first.policy.wrappers[0].state_dict()
        with context(
            tmp_path / "next", "ppo", {"initial.run": tmp_path / "first"}, wrappers="vector_obs"
        ) as tuned:
            training = tuned._held._open_training()
            ours = training.world.wrappers[0].state_dict()
        assert theirs.keys() == ours.keys()
        for name, array in theirs.items():
            np.testing.assert_array_equal(ours[name], array)

    @pytest.mark.parametrize("algorithm", ["bc", "sacfd"])
    def test_a_resumed_run_sees_recorded_episodes_by_the_statistics_of_what_it_began_with(
        self, recorded, tmp_path, algorithm
    ):
        _, (first, second), _ = recorded
        with context(
            tmp_path / "first", algorithm, {"dataset.run": second}, wrappers="vector_obs"
        ) as teacher:
            teacher.train(1)
        more = {"initial.run": tmp_path / "first", "dataset.run": first, "algorithm.n_epochs": 4}
        seen, ends = [], []
        for at_once in (4, 2):
            for _ in range(4 // at_once):
                with context(tmp_path / str(at_once), algorithm, more, wrappers="vector_obs") as run:
                    parts = run._held._open_training().world.parts
                    seen.append(parts.demonstrations.rollout.steps[0].observations["observation"].copy())
                    ends.append(run.train(at_once).content_sha256)
        for again in seen[1:]:
            np.testing.assert_array_equal(again, seen[0])
        assert ends[-1] == ends[0]

    @pytest.mark.parametrize(
        ("algorithm", "more", "given", "message"),
        [
            (
                "ppo",
                {"model.policy.networks.0.hidden_units": [5]},
                {},
                r"hidden_0_weight is \[64, 4\] there and \[5, 4\] here",
            ),
            ("ppo", {}, {"wrappers": "vector_obs"}, r"trained behind \[\] and this run has \['maze_core.Obs"),
            (
                "dqn",
                {},
                {},
                "acts by {'action': 'CategoricalHead'} and this algorithm by {'action': 'ActionV",
            ),
        ],
    )
    def test_another_policy_is_told_by_what_differs(
        self, recorded, tmp_path, algorithm, more, given, message
    ):
        folder, _, _ = recorded
        run = context(tmp_path, algorithm, {"initial.run": folder, **more}, **given)
        with pytest.raises(InvalidSpecificationError, match=message) as caught:
            run.train()
        assert caught.value.problems[0].path == "initial.run"

    def test_wrappers_that_only_change_rewards_may_differ(self, recorded, tmp_path):
        folder, _, _ = recorded
        scaled = {"RewardScalingWrapper": {"scale": 0.1}}
        with context(tmp_path, "ppo", {"initial.run": folder}, wrappers=scaled) as tuned:
            tuned.train(1)

    @pytest.mark.parametrize("algorithm", ["sac", "sacfd"])
    def test_sac_goes_on_from_a_clone_behind_tanh(self, tmp_path, algorithm):
        pendulum = {"env.name": "Pendulum-v1", "env.max_episode_steps": 20}
        played = RunContext(policy="random_policy", overrides=pendulum, seed=1).rollout(
            3, save=tmp_path / "data"
        )
        data = {"dataset.run": played.saved_to}
        tanh = {"algorithm.box_distribution": "squashed_gaussian"}
        with context(tmp_path / "clone", "bc", {**pendulum, **data, **tanh}) as clone:
            clone.train()
            theirs = clone.policy.policy.parameters
        given = data if algorithm == "sacfd" else {}
        more = {**pendulum, **given, "initial.run": tmp_path / "clone", "algorithm.lr": 1e-12}
        with context(tmp_path / "tuned", algorithm, more) as tuned:
            tuned.train(1)
            for name, array in tuned.policy.policy.parameters.items():
                np.testing.assert_allclose(array, theirs[name], atol=1e-9)


def test_sub_steps_and_masks_are_learnt_from_a_rollout_that_was_saved(tmp_path):
    played = RunContext(env=BoxesEnv, policy=BoxesPolicy(), seed=1).rollout(12, save=tmp_path / "data")
    assert played.summary.mean_return == 5.0
    data = {"dataset.run": played.saved_to, "algorithm.n_epochs": 30}
    with RunContext(tmp_path / "run", env=BoxesEnv, algorithm="bc", overrides=data, seed=1) as clone:
        assert clone.train().counters.env_steps == 0
        assert clone.evaluate(20).mean_return >= 4.5
