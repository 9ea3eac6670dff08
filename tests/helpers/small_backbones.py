"""Random dual encoders of a few thousand parameters, of every kind that a model can start from."""

import string
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoTokenizer,
    BertConfig,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    ConvNextV2Config,
    GemmaTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    TimmWrapperConfig,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTConfig,
)

SIDE = 32
DIM = 24
BLOCK = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURE: dict[str, Any] = BLOCK | {"image_size": SIDE, "patch_size": 16}
# Tokens of BERT-like towers have a padding that no text has.
PAD_OF_BERT = 97
TEXT = {"vocab_size": 100, "max_position_embeddings": 20, "bos_token_id": 98, "eos_token_id": 99, "pad_token_id": 99}
BERT_TEXT = BLOCK | TEXT | {"pad_token_id": PAD_OF_BERT}


def resnet_config() -> TimmWrapperConfig:
    """A ResNet of timm with a block in each stage but the third, which has two."""
    arguments = {"layers": [1, 1, 2, 1], "channels": [8, 8, 12, 16], "stem_width": 4}
    return TimmWrapperConfig(architecture="resnet18d", model_args=arguments, hidden_size=16)


def convnext_config() -> ConvNextV2Config:
    return ConvNextV2Config(
        num_stages=2, hidden_sizes=[8, 16], depths=[1, 2], patch_size=4, image_size=SIDE, hidden_size=16
    )


def _dual(vision: PreTrainedConfig, text: PreTrainedConfig) -> PreTrainedModel:
    return VisionTextDualEncoderModel(
        VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=DIM)
    )


def make_backbone(kind: str, **text: Any) -> PreTrainedModel:
    """A backbone in `eval` mode; `text` changes the config of its text tower. Both towers of a SigLIP are as deep."""
    of_clip = BLOCK | TEXT | text
    if kind == "clip":
        model: PreTrainedModel = CLIPModel(CLIPConfig(text_config=of_clip, vision_config=PICTURE, projection_dim=DIM))
    elif kind == "siglip":
        words = of_clip | {"projection_size": DIM, "pad_token_id": 0}
        seen = {"hidden_size": DIM, "num_hidden_layers": words["num_hidden_layers"]}
        model = SiglipModel(SiglipConfig(text_config=words, vision_config=PICTURE | seen))
    elif kind == "bert":
        model = _dual(ViTConfig(**PICTURE), BertConfig(**BERT_TEXT))
    elif kind == "roberta":
        model = _dual(CLIPVisionConfig(**PICTURE), RobertaConfig(**BERT_TEXT | {"max_position_embeddings": 130}))
    else:
        vision = {"resnet": resnet_config, "convnext": convnext_config}[kind]()
        model = _dual(vision, CLIPTextConfig(**of_clip))
    for module in model.modules():  # so that pictures differ behind it
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    with torch.no_grad():
        for name, statistic in model.named_buffers():  # as if it had been trained
            if name.endswith("running_mean"):
                statistic.normal_(std=0.1)
            elif name.endswith("running_var"):
                statistic.uniform_(0.5, 1.5)
    return model.eval()


def save_resnet(folder: Path, clip_folder: Path) -> Path:
    """A `VisionTextDualEncoderModel` with the tokenizer and the image processor of a CLIP."""
    tokenizer = AutoTokenizer.from_pretrained(clip_folder)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 160, "pad_token_id": tokenizer.eos_token_id}
    make_backbone("resnet", **text, **ends).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text((clip_folder / "preprocessor_config.json").read_text())
    return folder


def save_siglip(folder: Path, blocks: int = 2) -> Path:
    """A SigLIP with its image processor and the tokenizer of SigLIP 2, which gives no mask and keeps upper case.

    Each tower has this number of blocks.
    """
    symbols = [*string.ascii_lowercase, *string.digits, *string.punctuation, "▁"]
    vocab = {symbol: number for number, symbol in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *symbols])}
    text = {"vocab_size": len(vocab), "max_position_embeddings": 64, "eos_token_id": 1, "num_hidden_layers": blocks}
    make_backbone("siglip", **text).save_pretrained(folder)
    GemmaTokenizer(
        vocab=vocab, merges=[], add_bos_token=False, add_eos_token=True, model_input_names=["input_ids"]
    ).save_pretrained(folder)
    SiglipImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder
