"""TG-DFER: text-guided, weakly supervised recognition of facial expressions in video.

`import tgdfer` costs next to nothing: every public name is imported when it is first used, and the model is
registered with the Auto classes of `transformers` when those are first imported.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrapt import when_imported


if TYPE_CHECKING:
    from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
    from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification, TGDFERModel
    from tgdfer.processing.descriptions import built_in_descriptions
    from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
    from tgdfer.processing.processing_tgdfer import TGDFERProcessor
    from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

__version__ = "0.1.0"

_HOME_OF = {
    "TGDFERConfig": "tgdfer.modeling_tgdfer.configuration_tgdfer",
    "TGDFERModel": "tgdfer.modeling_tgdfer.modeling_tgdfer",
    "TGDFERForVideoClassification": "tgdfer.modeling_tgdfer.modeling_tgdfer",
    "TGDFERVideoProcessor": "tgdfer.processing.video_processing_tgdfer",
    "TGDFERProcessor": "tgdfer.processing.processing_tgdfer",
    "EmotionTimelinePipeline": "tgdfer.processing.pipeline_tgdfer",
    "built_in_descriptions": "tgdfer.processing.descriptions",
}

__all__ = ["__version__", "clip_tiny_faces", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tgdfer' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def clip_tiny_faces() -> Path:
    """Folder of `clip-tiny-faces`, the small CLIP that the package carries: a plain `CLIPModel` with its tokenizer."""
    from tgdfer.training.clip_tiny_faces import WEIGHTS

    return WEIGHTS


# Registration, one hook for each module of Auto classes, so that none is imported before it is asked for.
@when_imported("transformers.models.auto.configuration_auto")
def _register_config(auto: Any) -> None:
    from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig

    auto.AutoConfig.register("tgdfer", TGDFERConfig)


@when_imported("transformers.models.auto.modeling_auto")
def _register_models(auto: Any) -> None:
    from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
    from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification, TGDFERModel

    auto.AutoModel.register(TGDFERConfig, TGDFERModel)
    auto.AutoModelForVideoClassification.register(TGDFERConfig, TGDFERForVideoClassification)


@when_imported("transformers.models.auto.video_processing_auto")
def _register_video_processor(auto: Any) -> None:
    from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
    from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

    auto.AutoVideoProcessor.register(TGDFERConfig, TGDFERVideoProcessor)


@when_imported("transformers.models.auto.processing_auto")
def _register_processor(auto: Any) -> None:
    from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
    from tgdfer.processing.processing_tgdfer import TGDFERProcessor

    auto.AutoProcessor.register(TGDFERConfig, TGDFERProcessor)
