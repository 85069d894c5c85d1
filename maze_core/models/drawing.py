"""Policy and critic as a picture: what follows what, shapes and numbers of parameters, as SVG of our own layout.

A box stands below all that it reads; within a row, boxes are in the order of what they read. Programs show their
operations, networks of blocks their blocks, other modules their direct children in one box.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

from maze_core.models.acting import ActingPolicy
from maze_core.models.graph import ActionValues, Concat, Dense, Flatten, GraphNetwork, OneHot, Op
from maze_core.models.heads import Head
from maze_core.models.networks import ActionCritic, Critic, Network

_CHARACTER: Final = 7.35
"""Pixels of a character, about."""
_LINE, _PAD, _GAP_X, _GAP_Y, _MARGIN, _TITLE = 17, 9, 26, 34, 24, 34
_FILLS: Final = {"input": "#e8f0fe", "layer": "#ffffff", "output": "#e6f4ea"}
_STYLE: Final = (
    "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1f2328}.n{font-weight:600}.t{font-size:15px;"
    "font-weight:600}.b{stroke:#57606a}.e{fill:none;stroke:#8c959f;stroke-width:1.3}.s{stroke-dasharray:4 3}"
)


@dataclass
class _Box:
    """One step of a network."""

    name: str
    lines: list[str]
    reads: list[str]
    kind: str = "layer"
    n_state: int = 0
    """Numbers that it carries from one observation to the next."""
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        longest = max(len(self.name), *(len(line) for line in self.lines), 8)
        return longest * _CHARACTER + 2 * _PAD

    @property
    def height(self) -> float:
        return _LINE * (1 + len(self.lines)) + 2 * _PAD - 4


@dataclass
class _Figure:
    """A network, box by box; a box is added behind all that it reads."""

    title: str
    boxes: dict[str, _Box] = field(default_factory=dict)

    def add(self, key: str, name: str, lines: Sequence[str], reads: Iterable[str] = (), **more: Any) -> str:
        known = [source for source in reads if source in self.boxes]
        self.boxes[key] = _Box(name, [line for line in lines if line], known, **more)
        return key


def drawing(policy: ActingPolicy, critic: Critic | ActionCritic | None) -> str:
    """An SVG of all networks, side by side."""
    figures: list[_Figure] = []
    modules: dict[int, _Figure] = {}
    for key, step in policy.steps.items():
        for i, actor in enumerate(step.networks):
            agent = f" · agent {i}" if len(step.networks) > 1 else ""
            figure = _figure(f"policy · sub-step {key}{agent}", actor.logits, step.heads)
            modules[id(getattr(actor.logits, "module", actor))] = figure
            figures.append(figure)
    for title, network in _of_critic(critic):
        shared = modules.get(id(getattr(network, "module", network)))
        if shared is None:
            figures.append(_figure(title, network, ()))
        else:
            shared.title = shared.title.replace("policy", "policy and critic")
    return _svg(figures)


def _of_critic(critic: Critic | ActionCritic | None) -> list[tuple[str, Network]]:
    """Title and network of each of a critic's."""
    if critic is None:
        return []
    if isinstance(critic, ActionCritic):
        n = len(critic.networks)
        return [(f"critic {i + 1} of {n}", network) for i, network in enumerate(critic.networks)]
    keys: dict[Network, list[str]] = {}
    for key, network in critic.by_key.items():
        keys.setdefault(network, []).append(str(key))
    return [(f"critic · sub-step {', '.join(names)}", network) for network, names in keys.items()]


def _figure(title: str, network: Any, heads: Sequence[Head]) -> _Figure:
    figure = _Figure(title)
    if isinstance(network, GraphNetwork):
        last = _of_program(figure, network)
    elif hasattr(network.module, "embedding"):
        last = _of_blocks(figure, network.module)
    else:
        last = _of_module(figure, network)
    for head in heads:
        kind = type(head).__name__.removesuffix("Head")
        figure.add(f"head {head.name}", head.name, [kind, _numbers(head.logits_width)], [last], kind="output")
    if not heads:
        figure.add("value", "value", [_numbers(sum(_outputs(network).values()))], [last], kind="output")
    return figure


def _outputs(network: Any) -> Mapping[str, int]:
    if isinstance(network, GraphNetwork):
        return {"value": network.program.n_out}
    outputs: Mapping[str, int] = network.outputs
    return {name: width for name, width in outputs.items() if name != "state"}


def _of_program(figure: _Figure, network: GraphNetwork) -> str:
    """The boxes of a program; gives the last one."""
    widths = network.program.widths()
    for op in network.program.ops:
        lines, reads = _said(op, widths[op.target])
        name, kind = (op.source, "input") if isinstance(op, (Flatten, OneHot)) else (op.target, "layer")
        figure.add(op.target, name, lines, reads, kind=kind)
    return network.program.ops[-1].target


def _said(op: Op, width: int) -> tuple[list[str], list[str]]:
    """What a box says of an operation and its output, and what it reads."""
    if isinstance(op, Dense):
        shared = "shared with the policy" if op.target.startswith("shared_") else ""
        n = op.n_out * (op.n_in + 1)
        return [f"Dense · {op.activation}", f"[{width}] · {_parameters(n)}", shared], [op.source]
    if isinstance(op, Concat):
        return ["Concat", _numbers(width)], list(op.sources)
    if isinstance(op, ActionValues):
        return ["Duel" if op.duelling else "Mean of quantiles", _numbers(width)], [op.source]
    return [type(op).__name__, _numbers(width)], []


def _of_blocks(figure: _Figure, module: Any) -> str:
    """The boxes of a network of blocks; gives the last one."""
    embedding = module.embedding
    made: dict[str, str] = {}
    for name in dict.fromkeys(key for block in embedding.plan for key in block.in_keys):
        if name in embedding.in_keys:
            shape = embedding.shapes[name]
            said = str(list(shape)) if shape else "a number"
            made[name] = figure.add(f"in {name}", name, [said], kind="input")
    for block in embedding.plan:
        shapes = " ".join(str(list(embedding.shapes[key])) for key in block.out_keys)
        lines = [block.kind.removesuffix("Block"), *_layers(block), f"{shapes}{_counted(block)}"]
        reads = [made[key] for key in block.in_keys]
        key = figure.add(
            f"block {block.out_keys[0]}", ", ".join(block.out_keys), lines, reads, n_state=block.state_width
        )
        made |= dict.fromkeys(block.out_keys, key)
    latent = [made[key] for key in embedding.out_keys]
    for name, head in reversed(module.heads.items()):
        figure.add(name, name, [f"Linear{_counted(head)}"], latent)
    return "output"


def _of_module(figure: _Figure, network: Any) -> str:
    """One box for a module of the user's; gives it."""
    module = network.module
    inside = [f"{name}: {type(child).__name__}{_counted(child)}" for name, child in module.named_children()]
    return figure.add("module", type(module).__name__, [*inside, _counted(module).removeprefix(" · ")])


def _layers(block: Any) -> list[str]:
    """The layers within a block of several, one a line, with the activation behind each."""
    from torch import nn

    lines: list[str] = []
    stack = getattr(block, "layers", None)
    layer: Any
    for layer in stack if isinstance(stack, nn.Sequential) else ():
        if isinstance(layer, nn.Linear):
            lines.append(f"{layer.out_features}")
        elif hasattr(layer, "kernel_size") and hasattr(layer, "out_channels"):
            kernel, stride = ("×".join(map(str, sizes)) for sizes in (layer.kernel_size, layer.stride))
            lines.append(f"{layer.out_channels} of {kernel}, stride {stride}")
        elif lines:
            lines[-1] += f" · {type(layer).__name__}"
    return lines


def _counted(module: Any) -> str:
    n = sum(parameter.numel() for parameter in module.parameters())
    return f" · {_parameters(n)}" if n else ""


def _parameters(n: int) -> str:
    return f"{n:,} parameters"


def _numbers(n: int) -> str:
    return f"[{n}]"


def _svg(figures: Sequence[_Figure]) -> str:
    x, height, parts = float(_MARGIN), 0.0, []
    for figure in figures:
        width, bottom = _laid_out(figure, x)
        parts.append(f'<text class="t" x="{x:.0f}" y="{_MARGIN:.0f}">{escape(figure.title)}</text>')
        parts += [_edge(figure.boxes[source], box) for box in figure.boxes.values() for source in box.reads]
        parts += [_drawn(box) for box in figure.boxes.values()]
        x, height = x + width + 2 * _GAP_X, max(height, bottom)
    size = f"{x - 2 * _GAP_X + _MARGIN:.0f} {height + _MARGIN:.0f}"
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{size.split()[0]}" '
        f'height="{size.split()[1]}"><style>{_STYLE}</style>\n<rect width="100%" height="100%" fill="#fff"/>\n'
        f"{body}\n</svg>\n"
    )


def _laid_out(figure: _Figure, left: float) -> tuple[float, float]:
    """Place the boxes right of ``left``; gives the width of the figure, and its bottom."""
    # rows between a box and the last one, as few as its readers allow
    above: dict[str, int] = dict.fromkeys(figure.boxes, 0)
    for key, box in reversed(figure.boxes.items()):
        for source in box.reads:
            above[source] = max(above[source], above[key] + 1)
    rows: dict[int, list[_Box]] = {}
    for key, box in figure.boxes.items():
        rows.setdefault(-above[key], []).append(box)
    widths = [sum(box.width + _GAP_X for box in row) - _GAP_X for row in rows.values()]
    width, y = max([*widths, len(figure.title) * 9.0]), float(_MARGIN + _TITLE - 10)
    for i in sorted(rows):
        row = rows[i]
        row.sort(key=lambda box: _middle([figure.boxes[source] for source in box.reads]))
        x = left + (width - sum(box.width + _GAP_X for box in row) + _GAP_X) / 2
        for box in row:
            box.x, box.y, x = x, y, x + box.width + _GAP_X
        y += max(box.height for box in row) + _GAP_Y
    return width + 40 * any(box.n_state for box in figure.boxes.values()), y - _GAP_Y


def _middle(sources: Sequence[_Box]) -> float:
    return sum(box.x + box.width / 2 for box in sources) / len(sources) if sources else 0.0


def _edge(source: _Box, target: _Box) -> str:
    x1, y1, x2, y2 = (
        source.x + source.width / 2,
        source.y + source.height,
        target.x + target.width / 2,
        target.y,
    )
    middle = (y1 + y2) / 2
    return f'<path class="e" d="M{x1:.1f} {y1:.1f}C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {y2:.1f}"/>'


def _drawn(box: _Box) -> str:
    parts = [
        f'<rect class="b" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="5" '
        f'fill="{_FILLS[box.kind]}"/>'
    ]
    for i, line in enumerate([box.name, *box.lines]):
        style = ' class="n"' if i == 0 else ""
        y = box.y + _PAD + 11 + i * _LINE
        parts.append(f'<text{style} x="{box.x + _PAD:.1f}" y="{y:.1f}">{escape(line)}</text>')
    if box.n_state:
        x, y = box.x + box.width, box.y + box.height
        parts.append(
            f'<path class="e s" d="M{x:.1f} {y - 10:.1f}c34 0 34 {20 - box.height:.1f} 0 {20 - box.height:.1f}"/>'
            f'<text x="{x + 6:.1f}" y="{y + 8:.1f}">state [{box.n_state}]</text>'
        )
    return "".join(parts)
