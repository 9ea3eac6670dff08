"""Loading and saving: a model from its CLIP, as a whole, or as an adapter (all but the CLIP), and LoRA on and off.

An adapter is one small file beside `config.json`. It is not peft's adapter folder, which would lose bare parameters
and send `AutoModel` to CLIP's config. An adapter fits one CLIP only, so its config holds a fingerprint of that CLIP's
weights.
"""

import copy
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, extract_commit_hash

from .configuration_tgdfer import BASIC_EMOTIONS, TGDFERConfig
from .dual_encoders_tgdfer import DUAL_ENCODERS, context_start, lora_targets, require_dual_encoder, text_length

ADAPTER_NAME = "tgdfer_adapter.safetensors"


def locate(name_or_folder: str | os.PathLike, file: str, revision: str | None, **options: Any) -> tuple[str, str]:
    """Path of a file of a Hub repository or of a folder, and the commit it is of (of a folder, `revision`).

    Raises:
        OSError: There is none.
    """
    path = cached_file(str(name_or_folder), file, revision=revision, **options)
    return path, extract_commit_hash(path, None) or revision


def load_clip(name_or_folder: str | os.PathLike, revision: str | None, **options: Any) -> tuple[Any, str]:
    """A CLIP in fp32, whatever its checkpoint (small updates vanish in half precision), and the commit it is of.

    Raises:
        ValueError: The checkpoint is not one of a CLIP, or lacks weights.
        OSError: There is none.
    """
    path, commit = locate(name_or_folder, CONFIG_NAME, revision, **options)
    config = TGDFERConfig.get_config_dict(os.path.dirname(path))[0]
    require_dual_encoder(config, name_or_folder)
    loaded: Any = DUAL_ENCODERS[config["model_type"]].from_pretrained(
        name_or_folder, revision=commit, dtype=torch.float32, output_loading_info=True, **options
    )
    clip, report = loaded
    if report["missing_keys"]:
        raise ValueError(f"{name_or_folder} lacks weights of its CLIP, such as {min(report['missing_keys'])}.")
    if os.path.isdir(name_or_folder):
        clip.config._name_or_path = ""  # a path of this machine is nobody else's business
    return clip, commit


def _base_weights(clip: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights of a CLIP under their plain names, without its LoRA, if attached."""
    for name, weight in clip.state_dict().items():
        if "lora_" not in name:
            yield name.replace(".base_layer.", "."), weight


def fingerprint(clip: nn.Module) -> str:
    """SHA-256 of all weights of a CLIP in fp32; LoRA, while it is not merged, does not change it."""
    digest = hashlib.sha256()
    for name, weight in sorted(_base_weights(clip)):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.float().cpu().flatten().numpy().data)
    return digest.hexdigest()


def adapter_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """All of a model that is not its base CLIP: LoRA, class prompts, context, temporal network and head."""
    prefix = f"{model.base_model_prefix}.clip."
    return {
        name: weight for name, weight in model.state_dict().items() if "lora_" in name or not name.startswith(prefix)
    }


def write_adapter(model: PreTrainedModel, folder: str | os.PathLike) -> None:
    """Writes the adapter of a model and its config; a folder whose writing is cut off holds no adapter.

    Raises:
        ValueError: The CLIP of the model is not its base any more, or the folder holds a whole model.
    """
    config: Any = copy.deepcopy(model.config)
    clip: Any = model.base_model.clip
    if fingerprint(clip) != config.clip_sha256:
        raise ValueError(
            "The CLIP of this model is not the one it started from (LoRA was merged into it, or its weights or their "
            "dtype were changed), so an adapter would not fit: save the whole model with `save_pretrained`."
        )
    folder = Path(folder)
    if (folder / SAFE_WEIGHTS_NAME).exists():
        raise ValueError(f"{folder} holds a whole model; save the adapter in a folder of its own.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("auto_map", "custom_pipelines"):  # name code that is saved with whole models only
        if hasattr(config, name):
            delattr(config, name)
    config.architectures = [type(model).__name__]
    weights = {name: weight.contiguous() for name, weight in adapter_state(model).items()}
    with TemporaryDirectory(dir=folder) as drafts:
        config.to_json_file(Path(drafts, CONFIG_NAME))
        save_file(weights, Path(drafts, ADAPTER_NAME), metadata={"format": "pt"})
        (folder / ADAPTER_NAME).unlink(missing_ok=True)  # an older one must not stand beside the new config
        for name in (CONFIG_NAME, ADAPTER_NAME):
            Path(drafts, name).replace(folder / name)


def read_adapter(path: str) -> dict[str, Tensor]:
    """Weights of an adapter.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); save or download the adapter again.") from error


def load_base(config: TGDFERConfig, clip: str | os.PathLike | None, **options: Any) -> PreTrainedModel:
    """The CLIP that an adapter belongs to, from where its config says or from `clip`.

    Raises:
        ValueError: The config names none and `clip` is not given, or the weights are not those of the base.
    """
    base = config.clip_name or "a CLIP in a folder"
    base += f" at revision {config.clip_revision}" if config.clip_revision else ""
    if clip is None and config.clip_name is None:
        raise ValueError(f"This adapter belongs to {base}, so its config cannot say where that is: give it as `clip`.")
    if clip is None:
        model, _ = load_clip(config.clip_name, config.clip_revision, **options)
    else:
        model, _ = load_clip(clip, None, **options)
    if fingerprint(model) != config.clip_sha256:
        raise ValueError(
            f"The weights of {clip or base} are not those that this adapter was trained with, of {base} (SHA-256 "
            f"{str(config.clip_sha256)[:12]}..): give that CLIP as `clip`."
        )
    return model


def _is_lora(module: nn.Module) -> bool:
    # Where peft was not imported, no module is of its classes.
    lora = sys.modules.get("peft.tuners.lora")
    return lora is not None and isinstance(module, lora.LoraLayer)


def _class_word_prompts(tokenizer: Any, length: int | None) -> dict[str, Any]:
    """Prompts of the basic emotions by their names alone, without context, padded to `length` where it is given."""
    padding = {"padding": "max_length", "max_length": length} if length else {"padding": True}
    tokens = tokenizer(list(BASIC_EMOTIONS), padding_side="right", return_tensors="pt", **padding)
    ids = tokens.input_ids.unsqueeze(1)
    mask = torch.ones(ids.shape[:2], dtype=torch.bool)
    return {"labels": list(BASIC_EMOTIONS), "input_ids": ids, "description_mask": mask, "context_length": 0}


class CheckpointedModel(PreTrainedModel):
    """A model with a CLIP inside: how it is saved and loaded as a whole, and takes LoRA on and off.

    CLIP is frozen in every model that is loaded.
    """

    config: TGDFERConfig
    config_class = TGDFERConfig

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """Saves a plain model that every Auto class loads, LoRA merged, without changing this one.

        With LoRA attached `state_dict` is not used: its names are not those of the merged model.
        """
        if self.has_lora:
            self.merged_copy().save_pretrained(save_directory, is_main_process, **kwargs)
            return
        home = "modeling_tgdfer"
        # Saving notes only the class that is saved; the same weights serve both.
        self.config.auto_map = {
            "AutoConfig": "configuration_tgdfer.TGDFERConfig",
            "AutoModel": f"{home}.TGDFERModel",
            "AutoModelForVideoClassification": f"{home}.TGDFERForVideoClassification",
        }
        # The code of this pipeline is saved with the processor.
        self.config.custom_pipelines = {
            "emotion-timeline": {
                "impl": "pipeline_tgdfer.EmotionTimelinePipeline",
                "pt": ["AutoModelForVideoClassification"],
            }
        }
        super().save_pretrained(save_directory, is_main_process, state_dict, **kwargs)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Loads a model as every `PreTrainedModel` does, and freezes its CLIP."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded).freeze_clip()  # a tuple with `output_loading_info`
        return loaded

    def freeze_clip(self) -> None:
        """Freezes all of CLIP but its LoRA, if attached; called after every load."""
        for name, parameter in self.base_model.clip.named_parameters():
            parameter.requires_grad_("lora_" in name)

    @property
    def has_lora(self) -> bool:
        """Whether LoRA is attached and not merged."""
        return any(_is_lora(module) for module in self.modules())

    def attach_lora(self) -> None:
        """Adapts the last blocks of CLIP by LoRA (Hu et al., 2021), as many of each tower as the config says.

        In blocks with attention it adapts the attention projections, in others the convolutions and matrices. LoRA
        starts at zero: the outputs are unchanged. All else of CLIP is frozen.

        Raises:
            ImportError: peft is not installed.
            ValueError: The config asks for more blocks than a tower has.
        """
        # Only training needs it, and it takes long to import: saved models are plain, with LoRA merged.
        try:
            import peft
        except ImportError as error:
            raise ImportError("LoRA needs peft: `pip install peft`.") from error
        clip: Any = self.base_model.clip
        targets = []
        for tower, count in (("vision", self.config.lora_layers), ("text", self.config.lora_text_layers)):
            if count:
                module = getattr(clip, f"{tower}_model")
                targets += [f"{tower}_model.{name}" for name in lora_targets(module, count, tower)]
        if not targets:
            return
        lora = peft.LoraConfig(
            r=self.config.lora_rank,
            lora_alpha=self.config.lora_alpha,
            lora_dropout=self.config.lora_dropout,
            target_modules=targets,
        )
        peft.inject_adapter_in_model(lora, clip)
        self.freeze_clip()

    def merge_lora(self) -> None:
        """Folds LoRA into the weights it adapts: the same outputs, a plain model."""
        for name, module in list(self.named_modules()):
            if _is_lora(module):
                module.merge(safe_merge=True)
                self.set_submodule(name, module.get_base_layer())
        self.base_model._description_embeds = None

    def merged_copy(self) -> Self:
        """A copy of this model with LoRA merged."""
        merged = copy.deepcopy(self)
        merged.merge_lora()
        return merged


class ClassifierCheckpoints(CheckpointedModel):
    """A classifier: how it starts from a CLIP, and is saved and loaded as an adapter."""

    tgdfer: Any
    set_classes: Any

    @classmethod
    def from_clip(
        cls,
        clip: str | os.PathLike,
        class_prompts: Mapping[str, Any] | None = None,
        revision: str | None = None,
        **config_kwargs: Any,
    ) -> Self:
        """Starts a model from any CLIP or other dual encoder: at first it answers as that does, zero-shot.

        Args:
            clip: A Hub id such as `openai/clip-vit-base-patch16`, or a folder, of a `CLIPModel`, a `SiglipModel`
                (SigLIP 2 of fixed resolution too) or a `VisionTextDualEncoderModel` with a text tower of CLIP, BERT
                or RoBERTa. Where it has no safetensors, transformers reads its weights without running what is
                pickled in them.
            class_prompts: What `TGDFERProcessor.class_prompts()` returns. Without it the names of the seven basic
                emotions are the texts, one word a class, and `set_classes` may bring descriptions later.
            revision: Revision of the Hub repository.
            **config_kwargs: Fields of `TGDFERConfig`.

        Returns:
            The model, in `eval` mode, in fp32, with CLIP frozen.

        Raises:
            ValueError: `clip` is none of these, or the prompts do not fit it.
            ImportError: It needs a package that is not installed, such as timm.
            OSError: `clip` cannot be found.
        """
        clip_model, commit = load_clip(clip, revision)
        if class_prompts is None:
            tokenizer = AutoTokenizer.from_pretrained(clip, revision=commit)
            class_prompts = _class_word_prompts(tokenizer, text_length(clip_model.config))
        config = cls.config_class(
            clip_config=clip_model.config,
            clip_name=None if os.path.isdir(clip) else str(clip),
            clip_revision=commit,
            clip_sha256=fingerprint(clip_model),
            id2label=dict(enumerate(class_prompts["labels"])),
            context_length=class_prompts["context_length"],
            **config_kwargs,
        )
        model = cls(config)
        model.tgdfer.clip = clip_model
        model.set_classes(class_prompts)
        guidance = model.tgdfer.text_guidance
        if guidance.context is not None:
            start = context_start(clip_model.config)
            phrase = clip_model.text_model.get_input_embeddings()(
                guidance.prompt_ids[:, 0, start : start + guidance.context_length]
            )
            contexts = guidance.context.num_embeddings // guidance.context_length
            with torch.no_grad():
                guidance.context.weight.copy_(phrase[:contexts].flatten(0, 1))
        model.freeze_clip()
        return model.eval()

    @classmethod
    def from_adapter(
        cls,
        adapter: str | os.PathLike,
        clip: str | os.PathLike | None = None,
        revision: str | None = None,
        **hub_options: Any,
    ) -> Self:
        """Loads what `save_adapter` wrote, onto the CLIP that it was trained with.

        Args:
            adapter: Hub id or folder of the adapter.
            clip: Hub id or folder where that CLIP lies, in place of the id and revision in the adapter's config.
            revision: Revision of the adapter's Hub repository.
            **hub_options: `token`, `cache_dir`, `local_files_only` and so on, for both.

        Returns:
            The model, in `eval` mode, in fp32, with CLIP frozen, and LoRA attached where it was when saved.

        Raises:
            ValueError: The CLIP is not the one that the adapter was trained with, or the adapter is damaged.
            OSError: The adapter or its CLIP cannot be found.
            ImportError: The adapter has LoRA, and peft is not installed.
        """
        path, commit = locate(adapter, ADAPTER_NAME, revision, **hub_options)
        weights = read_adapter(path)
        config = cls.config_class.from_pretrained(adapter, revision=commit, **hub_options)
        clip_model = load_base(config, clip, **hub_options)
        config.clip_config = clip_model.config
        model = cls(config)
        model.tgdfer.clip = clip_model
        if any("lora_" in name for name in weights):
            model.attach_lora()
        expected = adapter_state(model)
        wrong = {name for name in weights.keys() & expected.keys() if weights[name].shape != expected[name].shape}
        wrong |= weights.keys() ^ expected.keys()
        if wrong:
            raise ValueError(
                f"The weights and the config of the adapter {adapter} do not fit each other: {min(wrong)}."
            )
        model.load_state_dict(weights, strict=False)
        model.freeze_clip()
        return model.eval()

    def save_adapter(self, folder: str | os.PathLike) -> None:
        """Saves all that is not base CLIP, which an adapter names only: some MB in place of hundreds.

        `tgdfer_adapter.safetensors` holds LoRA (not merged), class prompts, context, temporal network, visual prompts
        and head; `config.json` the id, revision and fingerprint of the CLIP. `from_adapter` loads them.

        Args:
            folder: Where to; it is made if need be, and holds no adapter until both files are whole.

        Raises:
            ValueError: The CLIP of this model is not its base any more (LoRA was merged), or the folder holds a whole
                model.
        """
        write_adapter(self, folder)
