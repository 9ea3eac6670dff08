"""The two graphs of an ONNX export: one classifies clips, the other encodes the descriptions of classes."""

import warnings
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from transformers.utils.generic import ModelOutput

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification

# The first version of the operators in which every operator that the exporter uses is defined. Later ones gain
# nothing, and older runtimes lack them.
OPSET = 20
# ONNX IR version of the files. onnxruntime 1.18 and later read it.
IR_VERSION = 10

CLIP_INPUTS = ("pixel_values_videos", "frame_mask", "timestamps")
CLIP_OUTPUTS = ("logits", "frame_logits", "frame_relevance")
TEXT_INPUTS = ("input_ids", "description_mask", "class_index", "is_unchanged")

# Parameters of the classifier that have one value per class, by the names of the inputs that replace them.
CLASS_PARAMETERS = {
    "class_bias": "bias",
    "class_sharpness": "relevance.sharpness",
    "class_strength": "visual_prompts.strength",
}


def class_tensors(model: TGDFERForVideoClassification) -> dict[str, Tensor]:
    """Returns the tensors that depend on the classes, by the names of the inputs of the graph.

    They are `text_embeds` (K, D), `class_bias` (K,), `class_sharpness` (K,) and, for a model with visual prompts by
    contrast, `class_strength` (K,).
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        texts = model.get_text_features().pooler_output
    values = {name: parameters[path] for name, path in CLASS_PARAMETERS.items() if path in parameters}
    return {"text_embeds": texts.detach().clone(), **{name: value.detach().clone() for name, value in values.items()}}


class ClipGraph(nn.Module):
    """A classifier as a function of clips and of the tensors of its classes.

    Args:
        model (`TGDFERForVideoClassification`): The model, in `eval` mode and without LoRA layers. It is changed.
    """

    def __init__(self, model: TGDFERForVideoClassification):
        super().__init__()
        self.model = model
        self.paths = [path for path in CLASS_PARAMETERS.values() if path in dict(model.named_parameters())]

    def forward(
        self, pixel_values_videos: Tensor, frame_mask: Tensor, timestamps: Tensor, text_embeds: Tensor, *values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Classifies clips: frames (B, T, 3, H, W), mask (B, T), seconds (B, T), texts (K, D), parameters (K,).

        Returns logits (B, K), evidence (B, T, K) and relevance (B, T, K).
        """
        # The cosines of single descriptions are no output of the graph, so one per class is enough here.
        texts = ModelOutput(
            text_embeds=text_embeds,
            description_embeds=text_embeds.unsqueeze(1),
            description_mask=torch.ones_like(text_embeds[:, :1], dtype=torch.bool),
        )
        self.model.tgdfer.class_texts = lambda: texts
        replaced = dict(zip(self.paths, values, strict=True))
        output = torch.func.functional_call(self.model, replaced, (pixel_values_videos, frame_mask, timestamps))
        return output.logits, output.frame_logits, output.frame_relevance


class TextGraph(nn.Module):
    """The class texts and the parameters of any classes, as `set_classes` of the model gives them.

    Args:
        model (`TGDFERForVideoClassification`): The model, in `eval` mode and without LoRA layers.
    """

    def __init__(self, model: TGDFERForVideoClassification):
        super().__init__()
        self.model = model
        trained = class_tensors(model)
        self.names = list(trained)
        for name, value in trained.items():
            self.register_buffer(name, value)

    def forward(
        self, input_ids: Tensor, description_mask: Tensor, class_index: Tensor, is_unchanged: Tensor
    ) -> tuple[Tensor, ...]:
        """Encodes classes: tokens (K, M, L), mask (K, M), index among the trained classes or -1 (K,), bool (K,).

        A class with an index keeps the parameters of that class, and its text as well if it is unchanged. Another
        class gets the mean of the parameters. All its descriptions count the same. Returns `text_embeds` (K, D) and
        the parameters (K,).
        """
        guidance = self.model.tgdfer.text_guidance
        context = None
        if guidance.context is not None:
            context = guidance.context.weight.unflatten(0, (-1, guidance.context_length))
            if guidance.has_context_per_class:
                context = _of_classes(context, class_index)
        descriptions = self.model.tgdfer._encode_descriptions(input_ids, context)
        texts = (descriptions * description_mask.unsqueeze(-1)).sum(1)
        texts = texts / texts.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(texts.dtype).tiny)
        values = {name: _of_classes(getattr(self, name), class_index) for name in self.names}
        keeps_text = (is_unchanged & (class_index >= 0)).unsqueeze(-1)
        return torch.where(keeps_text, values.pop("text_embeds"), texts), *values.values()


def _of_classes(value: Tensor, class_index: Tensor) -> Tensor:
    """Selects rows of a tensor of the trained classes. A class with the index -1 gets their mean."""
    rows = value[class_index.clamp(min=0)]
    is_known = (class_index >= 0).view(-1, *[1] * (value.ndim - 1))
    return torch.where(is_known, rows, value.mean(0, keepdim=True))


def clip_program(model: TGDFERForVideoClassification, side: tuple[int, int]) -> Any:
    """Exports the classification of clips, for any number of clips, frames and classes.

    Args:
        model (`TGDFERForVideoClassification`): The model, in `eval` mode and without LoRA layers.
        side (`tuple[int, int]`): Height and width of the frames.

    Returns:
        `torch.onnx.ONNXProgram`: The program. Its inputs are `CLIP_INPUTS` and the names of `class_tensors`.
    """
    given = class_tensors(model)
    clips, frames, classes = (Dim(name, min=1, max=2**20) for name in ("batch_size", "num_frames", "num_classes"))
    example = (torch.zeros(2, 3, 3, *side), torch.ones(2, 3, dtype=torch.bool), torch.arange(3.0).repeat(2, 1))
    shapes = ({0: clips, 1: frames},) * 3 + ({0: classes},)
    return _export(
        ClipGraph(deepcopy(model)),
        (*example, *given.values()),
        (*shapes, ({0: classes},) * (len(given) - 1)),
        [*CLIP_INPUTS, *given],
        list(CLIP_OUTPUTS),
    )


def text_program(model: TGDFERForVideoClassification) -> Any:
    """Exports the encoding of descriptions. Its outputs are inputs of the other graph, and have the same names.

    Args:
        model (`TGDFERForVideoClassification`): The model, in `eval` mode and without LoRA layers.

    Returns:
        `torch.onnx.ONNXProgram`: The program. Its inputs are `TEXT_INPUTS`.
    """
    model = deepcopy(model)
    ids = model.tgdfer.text_guidance.prompt_ids
    classes, descriptions = (Dim(name, min=1, max=2**16) for name in ("num_classes", "num_descriptions"))
    tokens: Any = Dim("num_tokens", min=2, max=model.config.clip_config.text_config.max_position_embeddings)
    # The texts of SigLIP all have the same length.
    lengths = {} if model.config.clip_config.model_type == "siglip" else {2: tokens}
    # The exporter takes a size of one for a constant, so the example has two classes of three descriptions.
    example_ids = ids[:1, :1].repeat(2, 3, 1)
    example = (example_ids, torch.ones(2, 3, dtype=torch.bool), torch.tensor([0, -1]), torch.tensor([True, False]))
    shapes = ({0: classes, 1: descriptions, **lengths}, {0: classes, 1: descriptions}, {0: classes}, {0: classes})
    graph = TextGraph(model)
    return _export(graph, example, shapes, list(TEXT_INPUTS), graph.names)


def _export(graph: nn.Module, example: tuple[Tensor, ...], shapes: Any, inputs: list[str], outputs: list[str]) -> Any:
    """Runs the exporter of PyTorch without its messages about progress."""
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.eval(),
            example,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            custom_translation_table=_translations(),
            verbose=False,
        )
    program.model.ir_version = IR_VERSION
    return program


@contextmanager
def _quiet() -> Any:
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        yield


def _translations() -> dict[Any, Any]:
    """Translates the stable sort of `top_frames`, which the exporter of PyTorch does not know."""
    from onnxscript import opset20 as op

    def stable_sort(self: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
        # TopK takes the lower index first if values are equal, which is what "stable" means.
        size = op.Shape(self, start=dim, end=None if dim == -1 else dim + 1)
        return op.TopK(self, size, axis=dim, largest=int(descending), sorted=1)

    return {torch.ops.aten.sort.stable: stable_sort}
