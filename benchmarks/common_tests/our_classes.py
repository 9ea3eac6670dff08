"""Test cases that apply the common test classes of transformers to our classes.

`__main__` copies this file into the tests of transformers. It cannot run elsewhere.
"""

import tempfile
import unittest

import torch
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor
from tests.test_processing_common import ProcessorTesterMixin
from tests.test_video_processing_common import VideoProcessingTestMixin, prepare_video_inputs

from tgdfer import (
    TGDFERConfig,
    TGDFERForVideoClassification,
    TGDFERModel,
    TGDFERProcessor,
    TGDFERVideoProcessor,
    clip_tiny_faces,
)

BLOCK = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 2}


class TGDFERModelTester:
    """Makes the configuration of a small model, and inputs for it."""

    is_training = True
    batch_size, num_frames, image_size, seq_length = 3, 4, 32, 4
    hidden_size, num_hidden_layers, num_attention_heads = 16, 1, 4

    def __init__(self, parent):
        self.parent = parent

    def get_config(self):
        text = {**BLOCK, "vocab_size": 99, "max_position_embeddings": 16, "bos_token_id": 97, "eos_token_id": 98}
        clip = {
            "model_type": "clip",
            "text_config": text,
            "vision_config": {**BLOCK, "image_size": self.image_size, "patch_size": 16},
            "projection_dim": 24,
        }
        labels = {index: f"label {index}" for index in range(3)}
        return TGDFERConfig(clip_config=clip, id2label=labels, max_descriptions=2, prompt_length=8, num_frames=4)

    def prepare_config_and_inputs_for_common(self):
        shape = [self.batch_size, self.num_frames, 3, self.image_size, self.image_size]
        mask = torch.ones(self.batch_size, self.num_frames, dtype=torch.bool)
        return self.get_config(), {"pixel_values_videos": floats_tensor(shape), "frame_mask": mask}


class TGDFERModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (TGDFERModel, TGDFERForVideoClassification)
    test_resize_embeddings = False
    has_attentions = True

    def setUp(self):
        self.model_tester = TGDFERModelTester(self)
        # Text attributes are not tested here, because they belong to the configuration of CLIP.
        self.config_tester = ConfigTester(
            self, config_class=TGDFERConfig, has_text_modality=False, common_properties=["num_frames"]
        )

    def test_config(self):
        self.config_tester.run_common_tests()

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = dict(inputs_dict)
        if return_labels and model_class is TGDFERForVideoClassification:
            inputs["labels"] = ids_tensor([self.model_tester.batch_size], 3)
        return inputs


class TGDFERVideoProcessorTester:
    num_channels, num_frames, min_resolution, max_resolution, batch_size = 3, 8, 30, 80, 5

    def prepare_video_processor_dict(self):
        return {"size": {"shortest_edge": 20}, "crop_size": {"height": 18, "width": 18}, "num_frames": 8}

    def expected_output_video_shape(self, videos):
        return [8, 3, 18, 18]

    def prepare_video_inputs(self, equal_resolution=False, return_tensors="pil"):
        return prepare_video_inputs(
            batch_size=self.batch_size,
            num_frames=self.num_frames,
            num_channels=self.num_channels,
            min_resolution=self.min_resolution,
            max_resolution=self.max_resolution,
            equal_resolution=equal_resolution,
            return_tensors=return_tensors,
        )


class TGDFERVideoProcessingTest(VideoProcessingTestMixin, unittest.TestCase):
    fast_video_processing_class = TGDFERVideoProcessor
    input_name = "pixel_values_videos"

    def setUp(self):
        super().setUp()
        self.video_processor_tester = TGDFERVideoProcessorTester()

    @property
    def video_processor_dict(self):
        return self.video_processor_tester.prepare_video_processor_dict()


class TGDFERProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = TGDFERProcessor

    @classmethod
    def _setup_from_components(cls):
        folder = tempfile.mkdtemp()
        TGDFERProcessor.from_clip(str(clip_tiny_faces()), {"joy": ["a smile"]}).save_pretrained(folder)
        return TGDFERProcessor.from_pretrained(folder)
