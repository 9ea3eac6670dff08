"""TG-DFER: text-guided, weakly supervised recognition of facial expressions in video.

`import tgdfer` is fast. Public names are imported when they are first used. The model is registered with the Auto
classes of `transformers` when those are first imported.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrapt import when_imported

if TYPE_CHECKING:
    from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
    from tgdfer.modeling_tgdfer.localization_tgdfer import TGDFERForTemporalLocalization
    from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification, TGDFERModel
    from tgdfer.processing.descriptions import built_in_descriptions
    from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
    from tgdfer.processing.processing_tgdfer import TGDFERProcessor
    from tgdfer.processing.search_pipeline_tgdfer import EmotionSearchPipeline
    from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

__version__ = "0.1.0"

_HOME_OF = {
    "TGDFERConfig": "tgdfer.modeling_tgdfer.configuration_tgdfer",
    "TGDFERModel": "tgdfer.modeling_tgdfer.modeling_tgdfer",
    "TGDFERForTemporalLocalization": "tgdfer.modeling_tgdfer.localization_tgdfer",
    "TGDFERForVideoClassification": "tgdfer.modeling_tgdfer.modeling_tgdfer",
    "TGDFERVideoProcessor": "tgdfer.processing.video_processing_tgdfer",
    "TGDFERProcessor": "tgdfer.processing.processing_tgdfer",
    "EmotionTimelinePipeline": "tgdfer.processing.pipeline_tgdfer",
    "EmotionSearchPipeline": "tgdfer.processing.search_pipeline_tgdfer",
    "built_in_descriptions": "tgdfer.processing.descriptions",
}

__all__ = [
    "EmotionSearchPipeline",
    "EmotionTimelinePipeline",
    "TGDFERConfig",
    "TGDFERForTemporalLocalization",
    "TGDFERForVideoClassification",
    "TGDFERModel",
    "TGDFERProcessor",
    "TGDFERVideoProcessor",
    "__version__",
    "built_in_descriptions",
    "clip_tiny_faces",
    "tgdfer_tiny",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tgdfer' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def clip_tiny_faces() -> Path:
    """Returns the folder of `clip-tiny-faces`, the small dual encoder of images and texts in the package.

    The folder also contains the tokenizer and the image processor.

    Returns:
        `Path`: The folder.
    """
    from tgdfer.weights import CLIP_TINY_FACES

    return CLIP_TINY_FACES


def tgdfer_tiny() -> Path:
    """Returns the folder of `tgdfer-tiny`, the trained TG-DFER model in the package.

    The folder also contains the processor and the model card.

    Returns:
        `Path`: The folder.
    """
    from tgdfer.weights import TGDFER_TINY

    return TGDFER_TINY


# Lazy registration with the Auto classes. Importing one of the modules of Auto classes also imports the module in this
# package that implements the class. Importing that module registers its class.
_AUTO = "transformers.models.auto"
# Each row has a module of Auto classes, the name that this module defines last, and our module. If the module has the
# last name, its import is complete.
_NEEDED_BY = (
    (f"{_AUTO}.configuration_auto", "AutoConfig", "tgdfer.modeling_tgdfer.configuration_tgdfer"),
    (f"{_AUTO}.modeling_auto", "AutoModelForVideoClassification", "tgdfer.modeling_tgdfer.localization_tgdfer"),
    (f"{_AUTO}.video_processing_auto", "AutoVideoProcessor", "tgdfer.processing.video_processing_tgdfer"),
    (f"{_AUTO}.processing_auto", "AutoProcessor", "tgdfer.processing.processing_tgdfer"),
    ("transformers.pipelines", "pipeline", "tgdfer.processing.pipeline_tgdfer"),
)


# Our network needs these modules. Each of them imports the Auto classes during its own import. Our network must be
# imported only after the import of these modules is complete.
_MODELS = "transformers.models"
_MUST_BE_COMPLETE = (
    "transformers.modeling_layers",
    f"{_MODELS}.clip.modeling_clip",
    f"{_MODELS}.siglip.modeling_siglip",
    f"{_MODELS}.vision_text_dual_encoder.modeling_vision_text_dual_encoder",
    "tgdfer.modeling_tgdfer.dual_encoders_tgdfer",
    "tgdfer.modeling_tgdfer.checkpoints_tgdfer",
    "tgdfer.modeling_tgdfer.layers_tgdfer",
    "tgdfer.modeling_tgdfer.losses_tgdfer",
    "tgdfer.modeling_tgdfer.modeling_tgdfer",
    "tgdfer.modeling_tgdfer.optional_parts_tgdfer",
    "tgdfer.modeling_tgdfer.regions_tgdfer",
    "tgdfer.modeling_tgdfer.visual_prompts_tgdfer",
)


def _import_ours(done: Any) -> None:
    started = [sys.modules[name] for name in _MUST_BE_COMPLETE if name in sys.modules]
    if any(module is not done and getattr(module.__spec__, "_initializing", False) for module in started):
        return  # This function is called again when the import of that module is complete.
    imported = [(sys.modules[theirs], last, ours) for theirs, last, ours in _NEEDED_BY if theirs in sys.modules]
    # The modules of Auto classes import each other. Our modules are imported only after all of them are complete.
    if all(hasattr(theirs, last) for theirs, last, _ in imported):
        for _, _, ours in imported:
            import_module(ours)


for _module in (*(theirs for theirs, _, _ in _NEEDED_BY), *_MUST_BE_COMPLETE):
    when_imported(_module)(_import_ours)


@when_imported("tgdfer.modeling_tgdfer.configuration_tgdfer")
def _register_config(ours: Any) -> None:
    import_module(f"{_AUTO}.configuration_auto").AutoConfig.register("tgdfer", ours.TGDFERConfig)


@when_imported("tgdfer.modeling_tgdfer.localization_tgdfer")
def _register_models(ours: Any) -> None:
    auto = import_module(f"{_AUTO}.modeling_auto")
    # `architectures` in the config chooses between these two. The first is also that of a classifier.
    auto.AutoModel.register(ours.TGDFERConfig, (ours.TGDFERModel, ours.TGDFERForTemporalLocalization))
    auto.AutoModelForVideoClassification.register(ours.TGDFERConfig, ours.TGDFERForVideoClassification)


@when_imported("tgdfer.processing.pipeline_tgdfer")
def _register_search(_: Any) -> None:
    # The second pipeline imports the first one, whose import must be complete.
    import_module("tgdfer.processing.search_pipeline_tgdfer")


@when_imported("tgdfer.processing.video_processing_tgdfer")
def _register_video_processor(ours: Any) -> None:
    from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig

    auto = import_module(f"{_AUTO}.video_processing_auto")
    auto.AutoVideoProcessor.register(TGDFERConfig, ours.TGDFERVideoProcessor)


@when_imported("tgdfer.processing.processing_tgdfer")
def _register_processor(ours: Any) -> None:
    from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig

    auto = import_module(f"{_AUTO}.processing_auto")
    auto.AutoProcessor.register(TGDFERConfig, ours.TGDFERProcessor)
