"""Whether the sentences of an explanation support its answer, after the Emotional Rationale Verifier.

The verifier (arXiv 2510.23506) predicts the emotions that a sentence suggests, at most two, and checks whether the
answer is among them. An explanation is consistent if that is so for every sentence. Here the emotions are predicted by
the text tower of a model, which compares a sentence with the descriptions of all classes. Descriptions with the words
of the sentence are left out, because an explanation quotes the descriptions of its own answer. The question is whether
somebody who knows the other descriptions would understand the sentence as support of the answer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tgdfer.modeling_tgdfer.layers_tgdfer import cosines
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.explanation_tgdfer import Explanation
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.errors import UserError, did_you_mean

# A sentence suggests at most this number of emotions, and only those above this probability, as in the paper.
MOST, LEAST = 2, 0.1
# The beginning of the sentence of an `Explanation`, which names the answer and the times.
_BEGINNING = re.compile(r"^[^:;]*(?:\d s|frames? \d+(?: to \d+)?)(?:$|: )")
_SEPARATORS = re.compile(r";\s*|[.!?](?:\s+|$)|\n+")


@dataclass(frozen=True)
class SentenceCheck:
    """What a sentence suggests.

    Attributes:
        text (`str`): The sentence.
        emotions (`tuple[str, ...]`): The emotions that it suggests, the most probable one first: none to two.
        probability (`float`): Probability of the answer, 0 to 1.
        supports (`bool`): Whether the answer is among the emotions.
    """

    text: str
    emotions: tuple[str, ...]
    probability: float
    supports: bool


@dataclass(frozen=True)
class Verification:
    """The check of an explanation.

    Attributes:
        label (`str`): The answer.
        sentences (`tuple[SentenceCheck, ...]`): Its sentences. There may be none.
    """

    label: str
    sentences: tuple[SentenceCheck, ...]

    @property
    def share(self) -> float | None:
        """Share of the sentences that support the answer, 0 to 1. None if there is no sentence."""
        return sum(one.supports for one in self.sentences) / len(self.sentences) if self.sentences else None

    @property
    def is_consistent(self) -> bool | None:
        """Whether every sentence supports the answer. None if there is no sentence."""
        return None if self.share is None else self.share == 1


def sentences_of(explanation: Explanation | str | Sequence[str]) -> list[str]:
    """Returns the sentences of an explanation.

    Args:
        explanation (`Explanation`, `str` or `Sequence[str]`): An explanation of this package, whose sentences are the
            descriptions that it names; a text, which is split at semicolons and at the ends of sentences, without the
            answer and the times that begin the text of an `Explanation`; or a list of sentences.
    """
    if isinstance(explanation, Explanation):
        return list(explanation.named)
    if isinstance(explanation, str):
        explanation = _SEPARATORS.split(_BEGINNING.sub("", explanation.strip()))
    return [sentence for text in explanation if (sentence := " ".join(text.split()).rstrip(".!? "))]


class RationaleVerifier:
    """Checks explanations with the text tower and the descriptions of a model.

    Args:
        model (`TGDFERForVideoClassification`): The model.
        processor (`TGDFERProcessor`): Its processor, which has the descriptions.

    Raises:
        UserError: If the processor has no descriptions.

    Example:
        ```python
        verifier = RationaleVerifier(*load_trained("tgdfer-tiny"))
        print(verifier.verify("The jaw is dropped. The brows are raised.", "surprise"))
        ```
    """

    def __init__(self, model: TGDFERForVideoClassification, processor: TGDFERProcessor) -> None:
        descriptions = processor.descriptions or {}
        if not descriptions:
            raise UserError("The processor of the model has no descriptions; set `processor.descriptions`.")
        self.model, self.processor = model, processor
        self.labels = sorted(descriptions)
        self.texts = [[_normalised(text) for text in descriptions[label]] for label in self.labels]
        encoded = self._encode([text for label in self.labels for text in descriptions[label]])
        self.embeds = encoded.split([len(texts) for texts in self.texts])
        clip: Any = model.tgdfer.clip
        self.scale = float(clip.logit_scale.detach().exp())

    def verify(self, explanation: Explanation | str | Sequence[str], label: str | None = None) -> Verification:
        """Checks whether every sentence of an explanation supports an answer.

        Args:
            explanation (`Explanation`, `str` or `Sequence[str]`): As in `sentences_of`.
            label (`str`, *optional*): The answer. By default that of the `Explanation`, or its first candidate if the
                answer is unsure.

        Raises:
            UserError: If the label is missing or unknown, or a sentence cannot be encoded.
        """
        if label is None and isinstance(explanation, Explanation):
            label = explanation.candidates[0] if explanation.candidates else explanation.label
        if label is None:
            raise UserError("A text does not say which answer it explains; give the label.")
        if label not in self.labels:
            raise UserError(f"There are no descriptions of {label!r}{did_you_mean(label, self.labels)}")
        sentences = sentences_of(explanation)
        checks = []
        for text, scores in zip(sentences, self.probabilities(sentences).tolist(), strict=True):
            ranked = sorted(range(len(self.labels)), key=lambda index: -scores[index])[:MOST]
            emotions = tuple(self.labels[index] for index in ranked if scores[index] > LEAST)
            checks.append(SentenceCheck(text, emotions, scores[self.labels.index(label)], label in emotions))
        return Verification(label, tuple(checks))

    def probabilities(self, sentences: Sequence[str]) -> Tensor:
        """Computes the probability of each label, given a sentence alone.

        They are `softmax_k log mean_m exp(c cos(s, g_km))` for the sentence `s`, the descriptions `g_km` of label k,
        and the scale `c` of CLIP. Descriptions with the words of the sentence are left out, unless a label has no
        others.

        Args:
            sentences (`Sequence[str]`): S sentences.

        Returns:
            `Tensor` of shape `(S, K)`: Probabilities of the labels, sorted by name.

        Raises:
            UserError: If a sentence cannot be encoded.
        """
        if not sentences:
            return torch.zeros(0, len(self.labels))
        encoded, columns = self._encode(sentences), []
        for texts, embeds in zip(self.texts, self.embeds, strict=True):
            scores = self.scale * cosines(encoded, embeds)  # (S, M)
            other = torch.tensor([[text != _normalised(one) for text in texts] for one in sentences])
            other |= ~other.any(1, keepdim=True)
            scores = scores.masked_fill(~other, -torch.inf).logsumexp(1) - other.sum(1).log()
            columns.append(scores)
        return torch.stack(columns, 1).softmax(1)

    def own_reliability(self) -> float:
        """Returns the share of the descriptions that suggest their own label, when they are left out themselves.

        It tells how far the text tower can be trusted as a verifier.
        """
        right = [
            check.supports
            for label in self.labels
            for check in self.verify((self.processor.descriptions or {})[label], label).sentences
        ]
        return sum(right) / len(right)

    @torch.no_grad()
    def _encode(self, texts: Sequence[str]) -> Tensor:
        """Encodes texts with the context phrase, as unit vectors: S texts -> (S, D)."""
        try:
            prompts = self.processor.phrase_prompts(texts)
        except ValueError as error:
            raise UserError(str(error)) from error
        return self.model.encode_phrases(prompts["input_ids"].to(self.model.device)).float().cpu()


def _normalised(text: str) -> str:
    """Returns a text without the differences that do not matter: case, spaces and the end of a sentence."""
    return " ".join(text.lower().split()).rstrip(".!? ")
