"""Reporters: one method may take everything, and several are told the same."""

from maze_core.metrics import Reporters, SilentReporter


class Everything(SilentReporter):
    def __init__(self):
        self.told = []

    def tell(self, method, *args, **kwargs):
        self.told.append((method, args, kwargs))


class Logs(Everything):
    def log(self, level, message):
        self.told.append(f"{level}: {message}")


def test_one_method_is_told_everything_that_has_no_method_of_its_own():
    everything, logs = Everything(), Logs()
    both = Reporters([everything, SilentReporter(), logs])
    both.phase("training")
    both.progress(epoch=1, fraction=0.5)
    both.metrics(1, 8, {"loss": 2.0})
    both.log("warning", "slow")
    first = [
        ("phase", ("training",), {}),
        ("progress", (), {"epoch": 1, "fraction": 0.5}),
        ("metrics", (1, 8, {"loss": 2.0}), {}),
    ]
    assert everything.told == [*first, ("log", ("warning", "slow"), {})]
    assert logs.told == [*first, "warning: slow"]
