"""``maze export``: a trained policy as a file for elsewhere, ONNX or arrays for NumPy alone."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cli.parsers import Mistake, add
from service.cli.remote import client_of, remote

if TYPE_CHECKING:
    from maze_core.checkpoint import Checkpoint


def add_commands(commands: Any) -> None:
    """Add this command to the parser's."""
    export = add(
        commands, "export", _export, "write a trained policy as ONNX, or as arrays for NumPy", remote()
    )
    export.add_argument("run", metavar="RUN", help="a run directory, a checkpoint file, or the id of a run")
    export.add_argument("--format", metavar="NAME", choices=["onnx", "numpy"], help="onnx or numpy")
    export.add_argument("--out", metavar="FILE", type=Path, help="policy.onnx or policy.npz; or a new folder")
    export.add_argument("--checkpoint", metavar="NAME", default="best", help="of the run (best)")
    export.add_argument(
        "--actor", metavar="STEP:AGENT", help="who acts, where an ONNX file has to have one of several"
    )


def _export(options: argparse.Namespace) -> int:
    from maze_core.export.exporting import export_policy

    if options.out is None and options.format is None:
        raise Mistake("say the --format, onnx or numpy, or a file to write: --out policy.onnx")
    target = options.out or Path("policy.npz" if options.format == "numpy" else "policy.onnx")
    checkpoint = _checkpoint(options)
    written = export_policy(checkpoint, target, format=options.format, actor_id=_actor(options.actor))
    print(f"{written}: acts as checkpoint {checkpoint.content_sha256[:12]} does")
    return 0


def _checkpoint(options: argparse.Namespace) -> "Checkpoint":
    from maze_core.checkpoint import Checkpoint
    from maze_core.rundir import RunDir

    place = Path(options.run)
    if place.exists() or not options.run.startswith("run_"):
        return Checkpoint.read(RunDir(place).checkpoint_path(options.checkpoint) if place.is_dir() else place)
    with client_of(options) as client, tempfile.TemporaryDirectory() as folder:
        file = client.run(options.run).download(Path(folder) / "policy.ckpt", options.checkpoint)
        return Checkpoint.read(Path(file))


def _actor(text: str | None) -> tuple[int | str, int] | None:
    if text is None:
        return None
    step, colon, agent = text.rpartition(":")
    if not (colon and agent.isdecimal()):
        raise Mistake(f"--actor {text}: write a sub-step and an agent, such as pick:0")
    return (int(step) if step.isdecimal() else step), int(agent)
