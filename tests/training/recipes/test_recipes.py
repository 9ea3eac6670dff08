"""Recipes: what is in them, where it comes from, and how options are layered."""

import re
from pathlib import Path

import pytest

from tgdfer.command_line import main
from tgdfer.training import recipes
from tgdfer.training.config import OPTIONS, TrainingConfig
from tgdfer.training.data.labels import descriptions_for
from tgdfer.training.data.published import PUBLISHED
from tgdfer.training.errors import UserError
from tgdfer.training.files import parse_yaml, read_yaml
from tgdfer.training.models import _require_options
from tgdfer.training.recipes.reading import DEFAULT_BACKBONE, layered, read_recipe, recipe_titles
from tgdfer.training_command import resolve_config
from tgdfer.weights import BUNDLED

ROOT = Path(__file__).parents[3]
FOLDER = Path(str(recipes.__file__)).resolve().parent
FILES = sorted([*FOLDER.glob("data_sets/*.yaml"), *FOLDER.glob("backbones/*.yaml")])
RECIPES, BACKBONES = recipe_titles("recipe"), recipe_titles("backbone")


def test_there_is_a_recipe_for_each_data_set_and_backbone():
    assert set(RECIPES) == {"dfew", "ferv39k", "mafw", "crema_d", "ravdess", "rendered_faces", "small_data"}
    assert set(BACKBONES) == {"clip-tiny-faces", "vit-b-16", "vit-l-14"} and DEFAULT_BACKBONE in BACKBONES
    assert len(FILES) == len(RECIPES) + len(BACKBONES)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_recipe_is_a_valid_configuration_with_every_backbone(recipe, backbone):
    options = read_recipe(recipe, backbone)
    if recipe in PUBLISHED:
        assert options["dataset"] == recipe
        options["data_root"] = "somewhere"
    config = TrainingConfig.from_options(**{"dataset": "clips"} | options)
    assert {name: config.options()[name] for name in options} == options
    _require_options(config.model.model_options)
    model = config.model.model
    assert model in BUNDLED or re.fullmatch(r"openai/clip-vit-\w+-patch\d+", model)
    # The description says how many folds there are.
    folds = PUBLISHED[recipe].folds if recipe in PUBLISHED else None
    assert folds is None or (f"{folds} folds" if folds > 1 else "one fold") in RECIPES[recipe]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_option_names_its_source_and_every_file_says_what_was_never_run(path):
    text = path.read_text(encoding="utf-8")
    header, *blocks = re.split(r"\n\n", text)
    assert re.search(r"Never run here|Run here", header)
    found = set()
    for block in blocks:
        comment = [line for line in block.splitlines() if line.startswith("#")]
        options = parse_yaml(block)
        assert len(options) == 1 and set(options) <= set(OPTIONS)
        source = re.search(r"# Source: (.+)", "\n".join(comment))
        assert source, f"{path.name}: {options}"
        found |= set(options)
    assert found == set(read_yaml(path))
    for document in re.findall(r"docs/[\w/]+\.md", text):
        assert (ROOT / document).is_file(), document


def test_no_option_is_in_files_of_both_kinds():
    """So it does not matter which of them overrides the other."""
    of_kind = [
        {name for path in FOLDER.glob(f"{kind}/*.yaml") for name in read_yaml(path)}
        for kind in ("data_sets", "backbones")
    ]
    assert all(of_kind) and not of_kind[0] & of_kind[1]


def test_later_layers_override_earlier_ones_and_mappings_are_merged(tmp_path):
    assert layered({"a": 1, "m": {"x": 1, "y": 1}}, {"m": {"y": 2}, "b": 3}) == {"a": 1, "m": {"x": 1, "y": 2}, "b": 3}
    file = tmp_path / "own.yaml"
    file.write_text("epochs: 7\nbatch_size: 5\nmodel_options: {mil_pooling: topk}\n")
    recipe = read_recipe("dfew", "vit-b-16")
    config = resolve_config(file, recipe, epochs=3, data_root="somewhere", model_options=["lora_rank=2"])
    assert config.optimisation.epochs == 3, "a flag overrides the file"
    assert config.optimisation.batch_size == 5, "the file overrides the backbone"
    assert config.model.model == "openai/clip-vit-base-patch16" and config.data.validation_fraction == 0.1
    assert config.model.model_options == {
        "lora_layers": 4,
        "context": "shared",
        "mil_pooling": "topk",
        "lora_rank": 2,
    }
    assert config.optimisation.warmup == OPTIONS["warmup"].default
    assert recipe["model_options"] == {"lora_layers": 4, "context": "shared"}, "a layer is not changed"


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) & set(PUBLISHED)))
def test_all_labels_have_descriptions(recipe):
    classes = PUBLISHED[recipe].classes
    found = descriptions_for(classes, read_recipe(recipe).get("descriptions"))
    assert list(found) == list(classes) and all(len(texts) > 1 for texts in found.values())


def test_a_backbone_alone_leaves_the_data_set_to_the_user():
    assert read_recipe() == {} and read_recipe(None, "vit-l-14")["model"] == "openai/clip-vit-large-patch14"
    assert "dataset" not in read_recipe(None, "vit-l-14")
    assert read_recipe("small_data") == read_recipe("small_data", DEFAULT_BACKBONE)


def test_unknown_names_give_a_suggestion(capsys):
    with pytest.raises(UserError, match="There is no backbone 'vit-b16'; did you mean 'vit-b-16'?"):
        read_recipe("dfew", "vit-b16")
    assert main(["train", "--recipe", "defw"]) == 2
    assert "There is no recipe 'defw'; did you mean 'dfew'?" in capsys.readouterr().err


def test_help_lists_recipes_and_backbones(capsys):
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*RECIPES, *BACKBONES))
