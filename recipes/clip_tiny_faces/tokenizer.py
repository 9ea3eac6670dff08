"""A small byte-level BPE tokenizer in the format of `CLIPTokenizer`."""

import json
from collections.abc import Iterable

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from recipes.clip_tiny_faces.captions import FACTS, all_words, caption
from tgdfer.processing.descriptions import built_in_descriptions

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77


def train_tokenizer(texts: Iterable[str], merges: int = 1200) -> CLIPTokenizer:
    """Learn merges from texts.

    All 256 byte symbols are in the vocabulary, inside a word and at its end: a byte that was not seen in training
    would become the unknown token, which in CLIP is the end of the text, and cut the prompt there without a word.

    Args:
        texts: What the merges are learned from.
        merges: Largest number of merges.

    Returns:
        A tokenizer with start, end, padding and unknown tokens set; padding is the end token, as in CLIP.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    # Spelling in bytes and splitting into words are CLIP's own.
    clip = CLIPTokenizer().backend_tokenizer
    learner.normalizer, learner.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + merges,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        min_frequency=2,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    pairs: list = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"][:merges]]
    symbols = [*alphabet, *(symbol + "</w>" for symbol in alphabet), *("".join(pair) for pair in pairs), START, END]
    vocabulary = {symbol: i for i, symbol in enumerate(dict.fromkeys(symbols))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=pairs,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=MAX_LENGTH,
    )


def build_tokenizer(seed: int = 0) -> CLIPTokenizer:
    """The tokenizer, learned from captions and from the words of the built-in class descriptions."""
    rng = np.random.default_rng([seed, 1])
    words = [text for texts in built_in_descriptions().values() for text in texts] + list(all_words())
    captions = (caption(rng.uniform(size=len(FACTS)) < 0.3, rng)[0] for _ in range(4000))
    return train_tokenizer([*words, *words, *captions])
