"""The Space: a web page (Gradio) on which people try a model with their own clips."""

from tgdfer.model_card.space.files import space_files

__all__ = ["space_files"]
