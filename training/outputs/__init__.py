"""Outputs of predictions: tables, JSON, subtitles, annotations, JSON lines, progress bar and terminal."""

from tgdfer.training.outputs.document import SCHEMA_VERSION, Run, load_schema, without_pixels
from tgdfer.training.outputs.files import PredictionFiles, recording_write_errors
from tgdfer.training.outputs.joining import join
from tgdfer.training.outputs.names import output_paths, short_names
from tgdfer.training.outputs.progress import PredictionProgress
from tgdfer.training.outputs.result_log import ResultLog, read_part
from tgdfer.training.outputs.shards import Shard
from tgdfer.training.outputs.terminal import print_results

__all__ = [
    "SCHEMA_VERSION",
    "PredictionFiles",
    "PredictionProgress",
    "ResultLog",
    "Run",
    "Shard",
    "join",
    "load_schema",
    "output_paths",
    "print_results",
    "read_part",
    "recording_write_errors",
    "short_names",
    "without_pixels",
]
