"""The typed client of a maze service, over its public HTTP API alone; :mod:`maze_client.answers` has what it gives.

from maze_client import Client

run = Client("http://127.0.0.1:8000").train(algorithm="ppo", overrides={"env.name": "CartPole-v1"}).wait()
print(run.best, run.compute_action([0.01, 0.02, -0.03, 0.04]))
"""

from maze_client.arguments import TrainArguments
from maze_client.client import AsyncClient, Client
from maze_client.errors import (
    ChangedError,
    ConflictError,
    ConnectionFailed,
    InvalidRequestError,
    MazeClientError,
    NotFoundError,
    ProblemError,
    RunFailed,
    UnauthorizedError,
    WaitTimeout,
)
from maze_client.run import AsyncRun, Run
from maze_client.sessions import AsyncSession, Session
from maze_client.sweep import AsyncSweep, Sweep

__all__ = [
    "AsyncClient",
    "AsyncRun",
    "AsyncSession",
    "AsyncSweep",
    "ChangedError",
    "Client",
    "ConflictError",
    "ConnectionFailed",
    "InvalidRequestError",
    "MazeClientError",
    "NotFoundError",
    "ProblemError",
    "Run",
    "RunFailed",
    "Session",
    "Sweep",
    "TrainArguments",
    "UnauthorizedError",
    "WaitTimeout",
]
