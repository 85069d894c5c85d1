"""Where the networks of a run are computed that torch computes: the CPU, or a GPU by CUDA.

Parameters stay arrays in the host's memory, where optimizers and checkpoints have them. On a GPU is a mirror of the
module, refreshed before it computes, whose gradients are fetched afterwards. So a checkpoint is of no device.
"""

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.networks import Networks
from maze_core.notices import Notices

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
"""``auto`` is ``cuda`` where torch sees one, else ``cpu``."""


def place(networks: Iterable[Networks | None], device: Device) -> None:
    """Compute the networks there that torch computes; those that numpy computes stay on the CPU, and it is said.

    Raises:
        InvalidSpecificationError: ``cuda`` is asked for, and torch sees none.
    """
    if device == "cpu":
        return
    each: list[Any] = [
        getattr(network, "logits", network)
        for part in networks
        if part is not None
        for _, network in part.named()
    ]
    modules = [network for network in each if network.needs_torch]
    if not modules:
        if device == "cuda":
            Notices.current().say(
                "device", "algorithm.device=cuda changes nothing: numpy computes dense networks, on the CPU."
            )
        return
    if (found := other_device(device)) is not None:
        for network in modules:
            network.place(found)


def other_device(device: Device) -> str | None:
    """What torch calls the device that is meant; None is the CPU.

    Raises:
        InvalidSpecificationError: ``cuda`` is asked for, and torch sees none.
    """
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        message = (
            f"cuda is asked for, and torch {torch.__version__} sees no such device on this machine: take auto or cpu, "
            "or install a torch that is built for CUDA where there is a GPU."
        )
        raise InvalidSpecificationError([Problem(path="algorithm.device", message=message)])
    return None
