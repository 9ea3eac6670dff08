"""Registration with the Auto classes, whatever is imported first: cases run in processes of their own."""

import subprocess
import sys

import pytest
from forked_python import ForkServer

# What the processes have imported already. It takes most of the time, and registers nothing.
LIBRARIES = ("torch", "torch._dynamo", "torchvision", "sklearn", "av", "cv2", "PIL", "tokenizers", "safetensors")

# Each enters the circle of modules of Auto classes, which import one another, at another place.
NAMES = {
    "model": "from transformers import AutoModelForVideoClassification",
    "schedule": "from transformers import get_cosine_schedule_with_warmup",
    "processor": "from transformers import AutoProcessor",
    "ours": "import tgdfer.training.train",
    "layers": "import transformers.modeling_layers",
    "clip": "from transformers import CLIPModel",
    "siglip": "from transformers import SiglipModel",
    "dual encoder": "from transformers import VisionTextDualEncoderModel",
    "bert": "from transformers import BertModel",
    "our backbones": "import tgdfer.modeling_tgdfer.dual_encoders_tgdfer",
    "our checkpoints": "import tgdfer.modeling_tgdfer.checkpoints_tgdfer",
    "our layers": "import tgdfer.modeling_tgdfer.layers_tgdfer",
    "our network": "import tgdfer.modeling_tgdfer.modeling_tgdfer",
    "our localizer": "import tgdfer.modeling_tgdfer.localization_tgdfer",
    "our models": "from tgdfer.training.models import start_model",
}
CHECK = """
import sys
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.pipelines import PIPELINE_REGISTRY
from tgdfer import TGDFERConfig, TGDFERForTemporalLocalization, TGDFERForVideoClassification, TGDFERModel
from tgdfer import TGDFERProcessor, TGDFERVideoProcessor

assert type(AutoConfig.for_model("tgdfer")) is TGDFERConfig
assert AutoModel._model_mapping[TGDFERConfig] == (TGDFERModel, TGDFERForTemporalLocalization)
assert AutoModelForVideoClassification._model_mapping[TGDFERConfig] is TGDFERForVideoClassification
found = VIDEO_PROCESSOR_MAPPING[TGDFERConfig]  # one for each backend, from transformers 5.23 on
assert TGDFERVideoProcessor in (found.values() if isinstance(found, dict) else [found])
assert PROCESSOR_MAPPING[TGDFERConfig] is TGDFERProcessor
assert "emotion-timeline" in PIPELINE_REGISTRY.get_supported_tasks()
"""


@pytest.fixture(scope="module")
def server():
    with ForkServer(*LIBRARIES) as server:
        yield server


def run(server: ForkServer, code: str) -> None:
    """Runs code in a process in which neither transformers nor this package has been imported."""
    fresh = "import sys\nassert not {'transformers', 'peft', 'tgdfer'} & set(sys.modules)\n"
    found = server.run("-c", fresh + code)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("first", NAMES)
def test_after_tgdfer(first: str, server: ForkServer) -> None:
    run(server, f"import tgdfer\n{NAMES[first]}\n{CHECK}")


@pytest.mark.slow
def test_before_tgdfer(server: ForkServer) -> None:
    run(server, f"from transformers import pipeline\nimport tgdfer\n{CHECK}")


def test_in_this_process() -> None:
    """After whatever the other tests have imported."""
    exec(CHECK, {})


def test_importing_tgdfer_imports_nothing_heavy() -> None:
    imports = "import tgdfer, tgdfer.command_line, sys"
    code = f"{imports}\nassert not {{'torch', 'transformers', 'datasets'}} & set(sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
