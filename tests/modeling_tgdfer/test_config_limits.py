"""Configs of downloaded models that ask for sizes and counts of no model, before anything is built of them."""

import json

import pytest
from huggingface_hub.errors import StrictDataclassError

from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig, require_sizes


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"num_frames": -3}, "`num_frames` is -3; it must be at least 1"),
        ({"long_range_layers": 10**7}, "`long_range_layers` is 10000000; it must be at most 1000"),
        ({"relevance_width": 10**10}, "`relevance_width` is 10000000000; it must be at most"),
        ({"prompt_length": 0}, "`prompt_length` is 0; it must be at least 1"),
        ({"num_labels": 10**10}, "`num_labels` is 10000000000; it must be at most 100000"),
        ({"id2label": [1]}, "`id2label` is"),
        ({"id2label": {"0": None}}, "`id2label` is"),
        ({"id2label": {1: "a", 2: "b"}}, "`id2label` is"),
        ({"id2label": {0: "a", 1: "a"}}, "`id2label` is"),
        ({"format_version": "new"}, "`format_version` is 'new'"),
        ({"clip_config": {"model_type": "clip", "vision_config": {"num_hidden_layers": 10**6}}}, "at most 1000"),
        ({"clip_config": {"model_type": "clip", "vision_config": {"num_labels": 10**9}}}, "at most 100000"),
        ({"clip_config": {"model_type": "clip", "vision_config": {"image_size": 0}}}, "at least 1"),
        ({"clip_config": {"model_type": "clip", "text_config": {"num_attention_heads": 0}}}, "at least 1"),
        ({"clip_config": {"vision_config": {"architecture": "hf-hub:a/b"}}}, "is not a timm architecture"),
        ({"clip_config": {"vision_config": {"model_args": {"layers": [1, 10**6]}}}}, "`layers` is 1000000"),
    ],
)
def test_sizes_that_no_model_has_are_refused_in_one_sentence(values, sentence):
    with pytest.raises(Exception) as refused:  # noqa: B017
        TGDFERConfig.from_dict({"model_type": "tgdfer", "format_version": 1, **values})
    reason = str(refused.value.__cause__ or refused.value)
    assert sentence in reason and len(reason.splitlines()) == 1


def test_sizes_of_real_models_pass():
    """XLM-RoBERTa has the longest list of tokens of them."""
    require_sizes({"text_config": {"vocab_size": 250_002, "pad_token_id": -1}, "vision_config": {"depths": [3, 27]}})


@pytest.mark.parametrize(
    "options", [{"mil_pooling": "bogus"}, {"temperature": -1.0}, {"topk_fraction": 7.0}, {"num_frames": 0}]
)
def test_options_of_loading_are_checked_too(options, tmp_path):
    TGDFERConfig().save_pretrained(tmp_path)
    with pytest.raises((ValueError, StrictDataclassError), match=next(iter(options))):
        TGDFERConfig.from_pretrained(tmp_path, **options)


def test_names_may_be_given_when_loading(tmp_path):
    """The indices of the labels follow. As texts, the indices of JSON would have another order."""
    names = [f"c{index}" for index in range(12)]
    TGDFERConfig(id2label=dict(enumerate(names))).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert TGDFERConfig.from_pretrained(tmp_path).class_names == names
    new = {index: f"d{index}" for index in range(12)}
    config, unused = TGDFERConfig.from_pretrained(tmp_path, id2label=new, other=1, return_unused_kwargs=True)
    assert config.class_names == list(new.values()) and config.label2id["d11"] == 11 and unused == {"other": 1}
    config.id2label = dict(enumerate(names))
    assert config.class_names == names
