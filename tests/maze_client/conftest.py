import pytest


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("maze_client.transport.time", made)
    monkeypatch.setattr("maze_client.following.time", made)
    monkeypatch.setattr("maze_client.run.time", made)
    monkeypatch.setattr("maze_client.sweep.time", made)
    return made
