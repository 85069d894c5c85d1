"""Settings of blocks: they are the arguments of their blocks, have many spellings, and say what is wrong where."""

import inspect

import pytest

from maze_core.errors import InvalidSpecificationError
from maze_core.models.block_config import BLOCKS, RECURRENT, BlockConfig
from maze_core.models.block_network import KINDS
from maze_core.models.template_config import BlockNetConfig, ModalityConfig

KEYS = {"self", "in_keys", "out_keys", "in_shapes"}
OF_JOINT = {"flatten_dense", "strided_convolution_dense", "vgg_convolution_dense", "vgg_convolution_gap"}


@pytest.mark.parametrize("name", sorted(set(BLOCKS) - OF_JOINT))
def test_the_settings_of_a_block_are_its_arguments_with_the_same_defaults(name: str):
    kind = KINDS[name.replace("_", "")]
    parameters = {
        key: p.default for key, p in inspect.signature(kind.__init__).parameters.items() if key not in KEYS
    }
    settings = BLOCKS[name].__dataclass_fields__
    only_last_step = {"bidirectional", "non_lin"} if name in ("lstm", "gru") else set()
    assert set(settings) - only_last_step <= set(parameters) | {"weight_init", "hidden_gain"}
    for key, default in parameters.items():
        # a setting that a configuration need not give is not given by it: but for how weights begin
        assert key in settings or default is not inspect.Parameter.empty, key
        if key in settings and default is not inspect.Parameter.empty and name not in RECURRENT:
            assert settings[key].default == default, key


@pytest.mark.parametrize(
    "spelling",
    ["vgg_convolution_gap", "VGGConvolutionGAPBlock", "maze.perception.blocks.VGGConvolutionGAPBlock"],
)
def test_a_block_has_its_name_and_that_of_its_class(spelling: str):
    config = BlockConfig(block_type=spelling, block_params={"hidden_channels": [4]})
    assert config.block_type == "vgg_convolution_gap"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"block_type": "dens"}, r"block_type: 'dens' is no block .* Did you mean 'dense'\?"),
        ({"block_type": "functional"}, "block_type: 'functional' is no block that a configuration can name"),
        (
            {"block_params": {"hidden_unit": [3]}},
            r"block_params.hidden_unit: .* Did you mean 'hidden_units'\?",
        ),
        ({"block_type": "vgg_convolution"}, "block_params.hidden_channels: VGGConvolutionParams needs it"),
        ({"block_params": {"hidden_units": [9999]}}, "block_params.hidden_units.0: 9999 is not valid"),
        (
            {"block_type": "gru", "block_params": {"bidirectional": True}},
            "block_params: bidirectional and non_lin are settings of lstm_last_step",
        ),
    ],
)
def test_a_wrong_setting_of_a_block_is_named(given: dict, message: str):
    with pytest.raises(InvalidSpecificationError, match=message):
        BlockConfig(**given)


def test_another_recurrence_needs_one_word():
    """What a template's recurrence says of one kind, the others take."""
    given = BlockConfig(block_type="lstm", block_params={"hidden_size": 9}).block_params
    for kind in RECURRENT:
        assert BlockConfig(block_type=kind, block_params=given).settings.hidden_size == 9


def test_a_recurrence_is_a_recurrent_block():
    with pytest.raises(
        InvalidSpecificationError, match=r"recurrence.block_type: is no recurrent block. Allowed: lstm"
    ):
        ModalityConfig(recurrence=BlockConfig())


def test_problems_of_named_blocks_say_which():
    with pytest.raises(InvalidSpecificationError, match=r"blocks.1.block_params.hidden_channels: .*needs it"):
        BlockNetConfig(
            blocks=[
                {"in_keys": "a", "out_keys": "b"},
                {"in_keys": "b", "out_keys": "c", "block_type": "strided_convolution"},
            ]
        )
