"""Texts that a tokenizer of CLIP is easily wrong about."""

ODD_TEXTS = (
    "It's 42 % of the Crow's-feet,  isn't it_?",
    "Ärger, naïveté",
    "愤怒 😀",
    "ge\u0301ne",  # an accent that is a character of its own
    "cm² ½ open, Ⅳ and १२",
    "ΣΑΣ, İstanbul",
)
