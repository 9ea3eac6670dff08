"""TG-DFER: text-guided, weakly supervised recognition of facial expressions in video.

`import tgdfer` costs next to nothing: every public name is imported when it is first used, and the model is
registered with the Auto classes of `transformers` when those are first imported.
"""

import sys
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

__all__ = [
    "EmotionTimelinePipeline",
    "TGDFERConfig",
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
    """Folder of `clip-tiny-faces`, the small dual encoder of the package, with its tokenizer and image processor."""
    from tgdfer.weights import CLIP_TINY_FACES

    return CLIP_TINY_FACES


def tgdfer_tiny() -> Path:
    """Folder of `tgdfer-tiny`, the trained TG-DFER model that the package carries, with its processor and its card."""
    from tgdfer.weights import TGDFER_TINY

    return TGDFER_TINY


# Registration with the Auto classes, without importing anything before it is asked for: when a module of Auto classes
# is imported, ours is imported too; when ours has been imported, by whichever way, it is registered.
_AUTO = "transformers.models.auto"
# Theirs, what it defines last, and ours.
_NEEDED_BY = (
    (f"{_AUTO}.configuration_auto", "AutoConfig", "tgdfer.modeling_tgdfer.configuration_tgdfer"),
    (f"{_AUTO}.modeling_auto", "AutoModelForVideoClassification", "tgdfer.modeling_tgdfer.modeling_tgdfer"),
    (f"{_AUTO}.video_processing_auto", "AutoVideoProcessor", "tgdfer.processing.video_processing_tgdfer"),
    (f"{_AUTO}.processing_auto", "AutoProcessor", "tgdfer.processing.processing_tgdfer"),
    ("transformers.pipelines", "pipeline", "tgdfer.processing.pipeline_tgdfer"),
)


# Each imports the Auto classes, directly or not, before it is whole, and our network needs it whole.
_MODELS = "transformers.models"
_NEEDED_WHOLE = (
    "transformers.modeling_layers",
    f"{_MODELS}.clip.modeling_clip",
    f"{_MODELS}.siglip.modeling_siglip",
    f"{_MODELS}.vision_text_dual_encoder.modeling_vision_text_dual_encoder",
    "tgdfer.modeling_tgdfer.dual_encoders_tgdfer",
    "tgdfer.modeling_tgdfer.checkpoints_tgdfer",
    "tgdfer.modeling_tgdfer.layers_tgdfer",
)


def _import_ours(done: Any) -> None:
    begun = [sys.modules[name] for name in _NEEDED_WHOLE if name in sys.modules]
    if any(module is not done and getattr(module.__spec__, "_initializing", False) for module in begun):
        return  # It comes back here when that module is whole.
    imported = [(sys.modules[theirs], last, ours) for theirs, last, ours in _NEEDED_BY if theirs in sys.modules]
    # They import one another: while one is half imported, ours, which need them whole, wait for its turn.
    if all(hasattr(theirs, last) for theirs, last, _ in imported):
        for _, _, ours in imported:
            import_module(ours)


for _module in (*(theirs for theirs, _, _ in _NEEDED_BY), *_NEEDED_WHOLE):
    when_imported(_module)(_import_ours)


@when_imported("tgdfer.modeling_tgdfer.configuration_tgdfer")
def _register_config(ours: Any) -> None:
    import_module(f"{_AUTO}.configuration_auto").AutoConfig.register("tgdfer", ours.TGDFERConfig)


@when_imported("tgdfer.modeling_tgdfer.modeling_tgdfer")
def _register_models(ours: Any) -> None:
    auto = import_module(f"{_AUTO}.modeling_auto")
    auto.AutoModel.register(ours.TGDFERConfig, ours.TGDFERModel)
    auto.AutoModelForVideoClassification.register(ours.TGDFERConfig, ours.TGDFERForVideoClassification)


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
