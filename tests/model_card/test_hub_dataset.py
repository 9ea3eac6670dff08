"""A data set of clips goes to the Hub, and a model is trained from it by id."""

import json
from pathlib import Path

from huggingface_hub import ModelCard

from tgdfer import TGDFERForVideoClassification
from tgdfer.model_card.card import build_card

PUSH = """
import json, sys
from datasets import ClassLabel, Dataset, DatasetDict, Video

rows = Dataset.from_list(json.loads(sys.argv[1])).cast_column("video", Video(decode=False))
rows = rows.cast_column("label", ClassLabel(names=["anger", "happiness"]))
DatasetDict(train=rows, test=rows.select([0, 9])).push_to_hub("user/clips", private=True)
"""

TRAIN = """
import sys
from tgdfer.command_line import main
from tgdfer.training.data.loading import load_clips

clips = load_clips("user/clips", "train")
assert clips.labels == ["anger"] * 5 + ["happiness"] * 5, clips.labels
assert clips.people == list("abcde") * 2, clips.people
assert all(isinstance(clips.video(index), bytes) for index in range(len(clips)))
for line in sys.argv[1:]:
    assert main(line.split()) == 0
"""


def test_train_from_a_data_set_by_id(hub, clip_rows, clip_folder, tmp_path):
    hub.python(PUSH, json.dumps(clip_rows), home=tmp_path)
    assert hub.dataset("user/clips").private
    for row in clip_rows:  # What is trained on comes from the Hub alone.
        Path(row["video"]).unlink()
    options = "--output trained --epochs 1 --num-frames 4 --frozen-features --feature-views 1 --batch-size 4"
    train = f"train --dataset user/clips --model {clip_folder} {options}"
    hub.python(TRAIN, train, "evaluate trained", home=tmp_path)

    run = tmp_path / "trained"
    model = TGDFERForVideoClassification.from_pretrained(run / "best")
    assert tuple(model.config.label2id) == ("anger", "happiness")
    card: ModelCard = build_card(run, "user/smile")
    assert card.data.datasets == ["user/clips"] and card.data.base_model is None
    assert "- Data: `user/clips`, split `train`" in card.text
    assert {(each.dataset_type, each.dataset_split) for each in card.data.eval_results} == {("user/clips", "test")}
