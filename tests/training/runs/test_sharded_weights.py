"""A model whose weights are sharded over processes is saved like any other."""

import json

import global_batch
import pytest
import torch
from launching import run_two
from safetensors.torch import load_file, save_file

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification

STEADY = {"instance_dropout": 0.0, "feature_dropout": 0.0, "long_range_dropout": 0.0, "lora_layers": 1}


@pytest.mark.slow
def test_two_processes_with_sharded_weights_learn_and_save_what_one_does(
    options, clip_folder, tmp_path, forked_python
):
    (tmp_path / "options.json").write_text(json.dumps(options | {"model_options": STEADY}))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(4, 3, 3, 32, 32, generator=generator)
    save_file({"pixel_values_videos": pixels, "labels": torch.tensor([0, 1, 2, 1])}, tmp_path / "batch.safetensors")
    global_batch.outcome("sharded", tmp_path)
    run_two(forked_python, global_batch.__file__, "sharded", tmp_path)
    alone, *together = (
        json.loads((tmp_path / f"rank-{rank}-of-{number}.json").read_text())
        for rank, number in ((0, 1), (0, 2), (1, 2))
    )
    assert alone["shards"] == 0 and all(one["shards"] > 20 for one in together)
    assert all(one["loss"] == pytest.approx(alone["loss"], abs=1e-5) for one in together)

    # The model with LoRA merged, and the adapter, are those of a model that was never sharded.
    for name in ("model.safetensors", "adapter/tgdfer_adapter.safetensors"):
        ours, theirs = (load_file(tmp_path / f"saved-{number}" / name) for number in (1, 2))
        assert ours.keys() == theirs.keys()
        assert all(torch.allclose(ours[key], theirs[key], atol=1e-6) for key in ours)
    configs = [json.loads((tmp_path / f"saved-{number}" / "config.json").read_text()) for number in (1, 2)]
    assert configs[0] == configs[1]
    pixels = pixels[:1]
    whole = TGDFERForVideoClassification.from_pretrained(tmp_path / "saved-2").eval()
    adapted = TGDFERForVideoClassification.from_adapter(tmp_path / "saved-2" / "adapter", clip=clip_folder)
    assert torch.allclose(whole(pixels).logits, adapted(pixels).logits, atol=1e-4)
