"""The pipeline `emotion-search`, on a model of a random CLIP."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, pipeline

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.search_pipeline_tgdfer import EmotionSearchPipeline
from tgdfer.processing.search_tgdfer import SearchReference

PHRASES = ["raised brows", "eyes closed"]
DESCRIPTIONS = {"sadness": ["lip corners sink"], "awe": ["mouth open", "brows up"]}


@pytest.fixture(scope="module")
def model_folder(clip_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    processor = TGDFERProcessor.from_clip(str(clip_folder), DESCRIPTIONS, num_frames=8)
    processor.search_reference = SearchReference.fit(torch.randn(200, 16), source="noise").to_dict()
    model = TGDFERForVideoClassification.from_clip(str(clip_folder), processor.class_prompts(), num_frames=8)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def search(model_folder):
    return pipeline("emotion-search", model=str(model_folder))


def test_an_index_has_the_features_of_the_frames(search, clip):
    assert type(search) is EmotionSearchPipeline
    index = search.index(str(clip), interval=0.4)
    pixels = search.processor(videos=str(clip), num_frames=40, sampling="segments", return_tensors="pt")
    with torch.inference_mode():
        features = search.model.get_frame_features(pixels["pixel_values_videos"])[0]
    expected = torch.nn.functional.normalize(features, dim=-1)[torch.from_numpy(index.frames).long()]
    assert torch.allclose(torch.from_numpy(index.embeddings).float(), expected, atol=2e-3)
    assert index.seconds == pytest.approx(index.frames / 25, abs=1e-3)
    assert index.spans[0, 0] == 0 and index.spans[-1, 1] == pytest.approx(index.duration) == pytest.approx(1.6)
    assert np.array_equal(index.spans[1:, 0], index.spans[:-1, 1]) and not index.people.any()


def test_searching_in_a_video_and_in_its_index_is_the_same(search, clip):
    index = search.index(str(clip))
    found = search(index, phrases=PHRASES, min_score=-9.0)
    assert [one["phrase"] for one in found] == PHRASES and all(one["moments"] for one in found)
    assert search(str(clip), phrases=PHRASES, min_score=-9.0) == found
    embeds = search.model.encode_phrases(**search.processor.phrase_prompts(PHRASES))
    assert search.processor.search(index, PHRASES, embeds, min_score=-9.0) == found
    assert search([index, str(clip)], phrases="raised brows", min_score=99.0)[0]["moments"] == []


def test_a_given_video_processor_is_used(search, model_folder):
    other = TGDFERProcessor.from_pretrained(model_folder)
    given = pipeline("emotion-search", model=str(model_folder), processor=other)
    assert given.processor is other and given.video_processor is other.video_processor
    given = EmotionSearchPipeline(search.model, other, video_processor=search.video_processor)
    assert given.processor is other and given.video_processor is search.video_processor


def test_phrases_are_encoded_like_descriptions(search):
    texts = [text for label in sorted(DESCRIPTIONS) for text in DESCRIPTIONS[label]]
    descriptions = search.model.get_text_features().last_hidden_state
    expected = torch.stack([descriptions[0, 0], descriptions[0, 1], descriptions[1, 0]])
    assert torch.allclose(search.encode(texts), expected, atol=1e-5)


def test_context_of_each_class_is_not_used_for_phrases(clip_folder):
    processor = TGDFERProcessor.from_clip(str(clip_folder), DESCRIPTIONS)
    prompts = processor.class_prompts()
    model = TGDFERForVideoClassification.from_clip(str(clip_folder), prompts, context="class").eval()
    phrases = processor.phrase_prompts(PHRASES)
    with torch.inference_mode():
        before = model.encode_phrases(**phrases)
        model.tgdfer.text_guidance.context.weight.add_(1)
        assert torch.equal(model.encode_phrases(**phrases), before)


@pytest.mark.parametrize("phrases", [None, [], [" "], [3], "", ["a", ""]])
def test_phrases_must_be_words(search, clip, phrases):
    with pytest.raises(ValueError, match="phrases that describe a face"):
        search(str(clip), phrases=phrases)


def test_a_long_phrase_is_named(search):
    with pytest.raises(ValueError, match='The phrase "a a'):
        search.encode(["a " * 200])


def test_the_reference_survives_saving(search, model_folder, tmp_path):
    search.save_pretrained(tmp_path)
    assert {"search_pipeline_tgdfer.py", "search_tgdfer.py"} <= {file.name for file in tmp_path.iterdir()}
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["custom_pipelines"]["emotion-search"]["impl"] == "search_pipeline_tgdfer.EmotionSearchPipeline"
    again = AutoProcessor.from_pretrained(tmp_path)
    assert again.search_reference == search.processor.search_reference
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"search_reference": {"width": 2}}))
    with pytest.raises(ValueError, match="search reference of the processor is damaged"):
        TGDFERProcessor.from_pretrained(tmp_path)
