"""The processor: class prompts, its round trip, and what it does without this package."""

import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from small_backbones import make_backbone, save_siglip
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    AutoVideoProcessor,
    BertTokenizer,
    ConvNextImageProcessor,
    SiglipImageProcessor,
    ViTImageProcessor,
)

from tgdfer.processing.descriptions import built_in_descriptions, canonical_label
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

DESCRIPTIONS = {"sadness": ["lip corners sink", "a tear"], "anger": ["brows low, a hard stare"]}


@pytest.fixture
def processor(clip_folder):
    return TGDFERProcessor.from_clip(str(clip_folder), DESCRIPTIONS, num_frames=4)


def test_from_clip_sees_as_the_clip_does(processor):
    videos = processor.video_processor
    assert dict(videos.size) == {"shortest_edge": 32} and dict(videos.crop_size) == {"height": 32, "width": 32}
    assert list(videos.image_mean) == [0.5, 0.4, 0.3] and list(videos.image_std) == [0.2, 0.25, 0.3]
    assert videos.num_frames == 4
    assert processor.tokenizer.model_max_length == 160


def test_from_and_save_pretrained(processor, tmp_path, clip):
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["auto_map"] == {"AutoProcessor": "processing_tgdfer.TGDFERProcessor"}
    assert saved["video_processor"]["auto_map"]["AutoVideoProcessor"] == "video_processing_tgdfer.TGDFERVideoProcessor"
    code = {"processing_tgdfer.py", "video_processing_tgdfer.py", "video_reading_tgdfer.py", "pipeline_tgdfer.py"}
    assert code <= {path.name for path in tmp_path.iterdir()}
    for cls in (TGDFERProcessor, AutoProcessor):
        loaded = cls.from_pretrained(tmp_path)
        assert type(loaded) is TGDFERProcessor
        assert loaded.descriptions == DESCRIPTIONS and loaded.context_phrase == "a photo of a face:"
        assert loaded.to_dict().items() <= processor.to_dict().items()
        for name, value in processor.class_prompts().items():
            assert torch.as_tensor(loaded.class_prompts()[name] == value).all(), name
    assert type(AutoVideoProcessor.from_pretrained(tmp_path)) is TGDFERVideoProcessor
    loaded.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "processor_config.json").read_text())
    assert again == saved


def test_call_takes_clips_texts_or_both(processor, clip):
    both = processor(videos=[clip, clip], text=["a longer text", "short"], num_frames=3, return_tensors="pt")
    assert both["pixel_values_videos"].shape == (2, 3, 3, 32, 32)
    assert both["timestamps"].shape == both["frame_mask"].shape == (2, 3)
    assert both["input_ids"].shape == both["attention_mask"].shape and len(both["input_ids"]) == 2
    assert set(processor(videos=clip)) == {"pixel_values_videos", "frame_mask", "timestamps"}
    assert set(processor(text="a text")) == {"input_ids", "attention_mask"}
    frames, seconds = processor.video_processor.read_clip(clip)
    again = processor(videos=[frames], timestamps=[seconds], return_tensors="pt")
    assert torch.equal(
        again["pixel_values_videos"], processor(videos=clip, return_tensors="pt")["pixel_values_videos"]
    )
    assert again.to(torch.float16)["timestamps"].dtype == torch.float32
    with pytest.raises(ValueError, match="at least one input"):
        processor()


@pytest.mark.parametrize("others", [{}, {"videos": np.zeros((4, 32, 32, 3), np.uint8)}, {"text": "a smile"}])
def test_images_are_refused(processor, others):
    with pytest.raises(ValueError, match="pass pictures as `videos`"):
        processor(images=Image.new("RGB", (32, 32)), **others)


def test_prompts_are_those_of_plain_tokenization(processor, clip_folder):
    prompts = processor.class_prompts()
    plain = AutoTokenizer.from_pretrained(clip_folder)
    assert prompts["labels"] == ["anger", "sadness"]
    assert prompts["description_mask"].tolist() == [[True, False], [True, True]]
    assert prompts["input_ids"].shape == prompts["attention_mask"].shape == (2, 2, prompts["input_ids"].shape[2])
    assert prompts["input_ids"].dtype == prompts["attention_mask"].dtype == torch.int64
    ragged = [["anger", 0, 0], ["anger", 1, 0], ["sadness", 0, 0], ["sadness", 1, 1]]
    phrase = plain("a photo of a face:", add_special_tokens=False)["input_ids"]
    assert prompts["context_length"] == len(phrase)
    for label, column, text in ragged:
        row = prompts["labels"].index(label)
        mask = prompts["attention_mask"][row, column].bool()
        ids = prompts["input_ids"][row, column][mask].tolist()
        words = plain(DESCRIPTIONS[label][text], add_special_tokens=False)["input_ids"]
        assert ids == plain(f"a photo of a face: {DESCRIPTIONS[label][text]}")["input_ids"]
        assert ids == [plain.bos_token_id, *phrase, *words, plain.eos_token_id]
        assert mask.int().diff().sum() <= 0, "padding is at the end"
    lengths = prompts["attention_mask"].sum(-1)
    assert prompts["input_ids"].shape[2] == lengths.max()


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory):
    return save_siglip(tmp_path_factory.mktemp("siglip"))


def test_prompts_of_siglip_are_padded_to_the_end_and_lowered(siglip_folder, tmp_path):
    processor = TGDFERProcessor.from_clip(str(siglip_folder), {"awe": ["Mouth open"], "joy": ["a smile"]})
    tokenizer = AutoTokenizer.from_pretrained(siglip_folder)
    processor.save_pretrained(tmp_path)
    for kept in (processor, AutoProcessor.from_pretrained(tmp_path)):
        prompts = kept.class_prompts()
        assert prompts["input_ids"].shape == (2, 1, 64)
        text = tokenizer("a photo of a face: mouth open")["input_ids"]
        assert text[-1] == tokenizer.eos_token_id and tokenizer.unk_token_id not in text
        assert prompts["input_ids"][0, 0].tolist() == text + [tokenizer.pad_token_id] * (64 - len(text))
        phrase = tokenizer("a photo of a face:", add_special_tokens=False)["input_ids"]
        assert prompts["context_length"] == len(phrase)
        assert (prompts["input_ids"][..., : len(phrase)] == torch.tensor(phrase)).all()
        given = kept(text=["Mouth open", "a"], return_tensors="pt")["input_ids"]
        assert given.shape == (2, 64) and tokenizer.unk_token_id not in given
    with pytest.raises(ValueError, match="but the text encoder accepts at most 64; shorten it"):
        processor.class_prompts({"awe": ["mouth " * 20]})


def test_prompts_of_bert(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["a", "photo", "of", "face", ":", "tear", "mouth", "open"]]
    make_backbone("bert").save_pretrained(tmp_path)
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(tmp_path)
    SiglipImageProcessor().save_pretrained(tmp_path)
    prompts = TGDFERProcessor.from_clip(
        str(tmp_path), {"awe": ["mouth open"], "sad": ["a tear mouth"]}
    ).class_prompts()
    assert prompts["context_length"] == 6
    assert prompts["input_ids"][0, 0].tolist() == [2, 5, 6, 7, 5, 8, 9, 11, 12, 3, 0]


@pytest.mark.parametrize(
    "images",
    [
        SiglipImageProcessor(size={"height": 24, "width": 24}),
        ViTImageProcessor(size={"height": 256, "width": 256}),
        ConvNextImageProcessor(size={"shortest_edge": 28}),
        ConvNextImageProcessor(size={"shortest_edge": 384}),
    ],
    ids=["siglip", "vit", "convnext", "convnext_384"],
)
def test_pixels_are_those_of_the_image_processor(siglip_folder, tmp_path, images):
    shutil.copytree(siglip_folder, tmp_path, dirs_exist_ok=True)
    images.save_pretrained(tmp_path)
    processor = TGDFERProcessor.from_clip(str(tmp_path), None)
    clip = torch.randint(0, 256, (2, 3, 40, 60), dtype=torch.uint8)
    expected = images(list(clip), return_tensors="pt")["pixel_values"]
    found = processor(videos=[clip], num_frames=2, return_tensors="pt")["pixel_values_videos"][0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_prompts_of_other_words_and_without_a_phrase(processor):
    other = processor.class_prompts({"awe": ["mouth open"]})
    assert other["labels"] == ["awe"] and other["description_mask"].tolist() == [[True]]
    processor.context_phrase = ""
    bare = processor.class_prompts({"awe": ["mouth open"]})
    assert bare["context_length"] == 0
    assert bare["input_ids"][0, 0].tolist() == processor.tokenizer("mouth open")["input_ids"]


@pytest.mark.parametrize(
    "descriptions, sentence",
    [
        (None, "no class descriptions"),
        ({"awe": []}, '"awe" needs a list'),
        ({"awe": "mouth open"}, '"awe" needs a list'),
        ({"awe": [3]}, '"awe" needs a list'),
        ({"awe": ["mouth open", "  "]}, '"awe" has an empty description'),
        ({"awe": ["mouth open", "Mouth  open"]}, '"awe" has the description "Mouth  open" twice'),
        ({"awe": ["mouth " * 40]}, "but the text encoder accepts at most 160; shorten it"),
        ({"awe": ["mouth <|endoftext|> open"]}, "does not know; reword it"),
        ({" ": ["mouth open"]}, "A class has an empty label"),
        ({"awe": ["mouth open"], "Awe ": ["brows up"]}, 'The classes "Awe " and "awe" differ only in case and spaces'),
        (
            {"awe": ["brows up", "a gasp"], "joy": ["A gasp", "brows  up"]},
            '"awe" and "joy" have the same descriptions',
        ),
    ],
)
def test_bad_descriptions_are_named(descriptions, sentence, processor):
    processor.descriptions = None
    with pytest.raises(ValueError, match=sentence):
        processor.class_prompts(descriptions)


def test_a_file_of_descriptions_encodes_a_label_set(processor, tmp_path):
    words = {"joy": ["a broad smile"], "boredom": ["half-closed eyes", "a slack mouth"]}
    expected = processor.class_prompts(words)
    for name, text in (("words.json", json.dumps(words)), ("words.yaml", yaml.safe_dump(words))):
        file = tmp_path / name
        file.write_text(text)
        processor.descriptions = None
        prompts = processor.encode_classes(file)
        assert prompts["labels"] == ["boredom", "joy"] and torch.equal(prompts["input_ids"], expected["input_ids"])
        assert processor.descriptions == words
    processor.encode_classes(str(file))
    for text, sentence in {
        "- joy": "holds no descriptions",
        "joy: [": "is not valid YAML",
        "joy: ''": "needs a list",
    }.items():
        file.write_text(text)
        with pytest.raises(ValueError, match=sentence):
            processor.encode_classes(file)
    assert processor.descriptions == words, "what cannot be used changes nothing"
    assert processor.encode_classes(DESCRIPTIONS)["labels"] == ["anger", "sadness"]
    assert processor.descriptions == DESCRIPTIONS and processor.descriptions is not DESCRIPTIONS


def test_built_in_descriptions(processor):
    basic = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    mafw = sorted([*basic, "anxiety", "contempt", "disappointment", "helplessness"])
    assert list(built_in_descriptions()) == basic
    everything = built_in_descriptions(mafw)
    assert built_in_descriptions("mafw") == everything and built_in_descriptions("basic") == built_in_descriptions()
    assert all(4 <= len(texts) <= 6 for texts in everything.values())
    texts = [text for several in everything.values() for text in several]
    assert len(set(texts)) == len(texts) and max(len(text.split()) for text in texts) < 25
    assert processor.class_prompts(everything)["labels"] == mafw
    assert list(built_in_descriptions(["Happy", "ANG"])) == ["happiness", "anger"]
    built_in_descriptions()["anger"].clear()
    assert built_in_descriptions()["anger"], "callers get copies"
    with pytest.raises(ValueError, match="no built-in descriptions of boredom"):
        built_in_descriptions(["anger", "boredom"])
    with pytest.raises(ValueError, match="no label set 'dfew'; use one of basic, mafw"):
        built_in_descriptions("dfew")


def test_canonical_labels():
    codes = ["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"]
    assert [canonical_label(code) for code in codes] == ["anger", "disgust", "fear", "happiness", "neutral", "sadness"]
    assert [canonical_label(name) for name in ("Surprised", " happy ", "fearful")] == ["surprise", "happiness", "fear"]
    assert [canonical_label(name) for name in ("Calm", "anger", "Boredom")] == ["calm", "anger", "boredom"]


@pytest.mark.slow  # it starts another Python
def test_loads_without_this_package(processor, tmp_path, clip):
    """A saved folder works by `trust_remote_code` where `tgdfer` cannot be imported, and can be saved again."""
    processor.save_pretrained(tmp_path / "saved")
    script = textwrap.dedent("""
        import sys
        from importlib.abc import MetaPathFinder

        class Blocker(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "tgdfer":
                    raise ModuleNotFoundError(f"No module named {name!r}")

        sys.meta_path.insert(0, Blocker())
        import torch
        from transformers import AutoProcessor, AutoVideoProcessor

        folder, clip, out = sys.argv[1:]
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
        videos = AutoVideoProcessor.from_pretrained(folder, trust_remote_code=True)
        processor.save_pretrained(out + "/again")
        again = AutoProcessor.from_pretrained(out + "/again", trust_remote_code=True)
        try:
            videos("missing.mp4")
        except ValueError as error:
            sentence = str(error)
        assert not any(name.split(".")[0] == "tgdfer" for name in sys.modules)
        torch.save({
            "prompts": again.class_prompts(),
            "batch": dict(processor(videos=clip, return_tensors="pt")),
            "videos": dict(videos(clip, return_tensors="pt")),
            "sentence": sentence,
        }, out + "/found.pt")
    """)
    environment = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}
    arguments = [str(tmp_path / "saved"), str(clip), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt")
    assert found["sentence"] == "missing.mp4 does not exist; check the path."
    expected = processor(videos=clip, return_tensors="pt")
    for batch in (found["batch"], found["videos"]):
        assert set(batch) == set(expected)
        assert all(torch.equal(batch[name], expected[name]) for name in batch)
    assert torch.equal(found["prompts"]["input_ids"], processor.class_prompts()["input_ids"])


@pytest.mark.parametrize("given", [{"padding": "max_length"}, {"text_kwargs": {"padding": "max_length"}}], ids=str)
def test_padding_is_passed_once(processor, given):
    """At the top or among those of the tokenizer; without it texts are padded as the processor says."""
    texts = ["a longer text", "short"]
    assert processor(text=texts, return_tensors="pt", **given)["input_ids"].shape == (2, 160)
    longest = processor(text=texts, return_tensors="pt")["input_ids"].shape
    assert longest[1] < 160
    nested = processor(text=texts, text_kwargs={"truncation": True, "max_length": 4}, return_tensors="pt")
    assert nested["input_ids"].shape == (2, 4)
    processor.text_padding = "max_length"
    assert processor(text=texts, return_tensors="pt")["input_ids"].shape == (2, 160)
    assert processor(text=texts, return_tensors="pt", padding="longest")["input_ids"].shape == longest


def test_kwargs_of_videos_may_be_nested(processor, clip):
    flat = processor(videos=clip, num_frames=3, sampling="dense", return_tensors="pt")
    nested = processor(videos=clip, videos_kwargs={"num_frames": 3, "sampling": "dense"}, return_tensors="pt")
    assert all(torch.equal(nested[name], value) for name, value in flat.items())
    assert TGDFERProcessor.valid_processor_kwargs._defaults["text_kwargs"]["padding"] == "longest"
    assert TGDFERVideoProcessor.valid_kwargs.__name__ == "TGDFERVideoProcessorKwargs"
