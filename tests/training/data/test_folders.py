"""Local folders of clips: splits, labels, links and names as they lie on disk."""

import json
import logging
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image
from small_clips import write_clip

from tgdfer.training.data.loading import load_clips, open_dataset
from tgdfer.training.errors import UserError


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("one") / "clip.mp4", num_frames=2)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "clips"


@pytest.fixture
def write(folder, clip):
    """Copies a clip to paths below the folder, and writes rows of metadata."""

    def copies(*names: str, metadata: str = "", rows: list[dict] | None = None) -> None:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, path)
        if metadata:
            lines = [json.dumps(row) for row in rows or [{"file_name": one, "label": "x"} for one in names]]
            (folder / metadata).write_text("\n".join(lines) + "\n", encoding="utf-8")

    return copies


def labels_of(folder: Path, split: str = "train") -> dict[str, str]:
    clips = load_clips(str(folder), split)
    return dict(zip(clips.files, clips.labels, strict=True))


def test_names_of_files_make_no_split(folder, write):
    """By `datasets`, the first and the last would be splits of their own, and all others be lost."""
    names = ["happy/train-ride.mp4", "happy/a.mp4", "sad/b.mp4", "sad/final_test.mp4", "test-anxiety/c.mp4"]
    write(*names)
    assert list(open_dataset(str(folder))) == ["train"]
    assert labels_of(folder) == {
        name: {"happy": "happiness", "sad": "sadness"}.get(n := name.split("/")[0], n) for name in names
    }


def test_splits_may_lie_deeper_and_clips_outside_of_them_are_named(folder, write, caplog):
    write(
        "v1/Training/happy/a.mp4", "v1/Training/sad/b.mp4", "v1/val/happy/c.mp4", "v1/val/sad/d.mp4", "more/sad/e.mp4"
    )
    with caplog.at_level(logging.WARNING, "tgdfer"):
        clips = load_clips(str(folder), "train")
    assert clips.labels == ["happiness", "sadness"] and list(clips.left_out) == ["more/sad/e.mp4"]
    assert (
        "1 file is not used, because it is not in the folder" in caplog.text
        and "it is not in the folder of a split: more/sad/e.mp4" in caplog.text
    )
    assert len(load_clips(str(folder), "validation")) == 2


def test_metadata_beside_the_splits_is_read(folder, write):
    """`datasets` ignores it, and takes the names of folders for labels."""
    names = ["train/one/a.mp4", "train/one/b.mp4", "test/one/c.mp4", "test/one/d.mp4"]
    rows = [{"file_name": name, "label": ["fear", "anger"][i % 2], "person": i} for i, name in enumerate(names)]
    write(*names, metadata="metadata.jsonl", rows=rows)
    assert labels_of(folder) == {names[0]: "fear", names[1]: "anger"}
    assert labels_of(folder, "test") == {names[2]: "fear", names[3]: "anger"}
    assert load_clips(str(folder), "test").people == ["2", "3"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_metadata_of_other_formats(ending, folder, write):
    import pandas

    rows = pandas.DataFrame({"file_name": ["a.mp4", "b.mp4"], "label": ["fear", "anger"], "person": ["p", None]})
    write("a.mp4", "b.mp4")
    getattr(rows, f"to_{ending}")(folder / f"metadata.{ending}", index=False)
    clips = load_clips(str(folder), "train")
    assert (clips.labels, clips.people) == (["fear", "anger"], ["p", "clip 1 of train"])


def test_folders_behind_links_have_the_label_of_the_link(folder, write):
    write("train/happy/a.mp4", "hidden/.cache/b.mp4", "train/sad/c.mp4")
    (folder / "train" / "fear").symlink_to(folder / "hidden" / ".cache")
    (folder / "train" / "sad" / "loop").symlink_to(folder / "train")
    assert labels_of(folder)["train/fear/b.mp4"] == "fear"


def test_links_that_lead_out_of_the_data_set_are_refused(folder, write, tmp_path, clip):
    write("train/happy/a.mp4", "train/sad/b.mp4")
    outside = tmp_path / "secret"
    outside.mkdir()
    shutil.copy(clip, outside / "c.mp4")
    for name, target in (("train/fear", outside), ("train/happy/c.mp4", outside / "c.mp4")):
        (folder / name).symlink_to(target)
        with pytest.raises(UserError, match=rf"{name} is a link that points out of the data set, to {target}: copy"):
            load_clips(str(folder), "train")
        (folder / name).unlink()
    (folder / "train" / "clip").symlink_to(outside / "c.mp4")
    write(
        metadata="train/metadata.jsonl",
        rows=[{"file_name": "clip", "label": "fear"}, {"file_name": "sad/b.mp4", "label": "x"}],
    )
    with pytest.raises(UserError, match="train/clip is a link that points out"):
        load_clips(str(folder), "train")


def test_a_snapshot_of_the_hub_is_made_of_links(folder, write, tmp_path, clip):
    snapshot = tmp_path / "datasets--user--clips" / "snapshots" / "0123"
    (tmp_path / "datasets--user--clips" / "blobs").mkdir(parents=True)
    for name in ("happy", "sad"):
        blob = tmp_path / "datasets--user--clips" / "blobs" / name
        shutil.copy(clip, blob)
        (snapshot / "train" / name).mkdir(parents=True)
        (snapshot / "train" / name / "a.mp4").symlink_to(os.path.relpath(blob, snapshot / "train" / name))
    assert len(load_clips(str(snapshot), "train")) == 2


@pytest.mark.parametrize("name", ["../../outside.mp4", "/etc/passwd", "file:///etc/passwd", "simplecache::http://a/b"])
def test_metadata_names_nothing_outside(name, folder, write):
    write("train/a.mp4", metadata="train/metadata.jsonl", rows=[{"file_name": name, "label": "x"}])
    with pytest.raises(
        UserError, match=r"^Row 1 of [^\n]*metadata.jsonl names .* not below its folder: copy|not there"
    ):
        load_clips(str(folder), "train")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"label": "x"}', "Row 1 of .* has no file_name"),
        ("[1]", "Row 1 of .* is not an object"),
        ('{"file_name": "a.mp4"', "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"file_name": "a.mp4"}\n{"file_name": "./a.mp4"}', "Row 2 of .*another row names"),
        ('{"file_name": "\\ud800.mp4"}', "not valid Unicode"),
    ],
)
def test_metadata_that_cannot_be_read(text, sentence, folder, write):
    write("train/a.mp4")
    (folder / "train" / "metadata.jsonl").write_text(text)
    with pytest.raises(UserError, match=rf"^[^\n]*{sentence}[^\n]*$"):
        load_clips(str(folder), "train")


def test_hidden_files_of_macos_are_passed_over(folder, write):
    write("happy/a.mp4", "sad/b.mp4", "__MACOSX/happy/a.mp4")
    (folder / "happy" / "._a.mp4").write_bytes(b"\0\5\x16\7")
    clips = load_clips(str(folder), "train")
    assert clips.files == ["happy/a.mp4", "sad/b.mp4"] and clips.left_out == {}


def test_names_of_any_script_and_composition(folder, write):
    composed = "gêne"
    taken_apart = unicodedata.normalize("NFD", composed)
    assert composed != taken_apart
    write(f"train/{taken_apart}/été.mp4", "train/悲しみ/क्रोध.mp4", f"test/{composed}/a.mp4", "test/悲しみ/b.mp4")
    assert set(labels_of(folder).values()) == set(labels_of(folder, "test").values()) == {composed, "悲しみ"}
    rows = [{"file_name": f"{composed}/{unicodedata.normalize('NFD', 'été')}.mp4", "label": "a"}]
    rows += [{"file_name": "悲しみ/क्रोध.mp4", "label": "b"}]
    write(metadata="train/metadata.jsonl", rows=rows)
    shutil.rmtree(folder / "test")
    assert set(labels_of(folder).values()) == {"a", "b"}


def test_names_that_are_no_unicode_are_left_out_with_the_reason(folder, write, caplog, tmp_path):
    write("happy/a.mp4", "sad/b.mp4")
    try:
        os.link(folder / "happy" / "a.mp4", os.fsencode(folder / "happy") + b"/caf\xe9.mp4")
    except OSError:
        pytest.skip("the file system refuses such names")
    with caplog.at_level(logging.WARNING, "tgdfer"):
        clips = load_clips(str(folder), "train")
    assert len(clips) == 2 and len(clips.left_out) == 1
    assert "its name is not valid UTF-8, so rename it: happy/caf\\udce9.mp4" in caplog.text
    from tgdfer.training.data.left_out import write_left_out

    write_left_out(tmp_path, "train", clips)
    assert (tmp_path / "left_out_train.txt").read_text() == (
        "happy/caf\\udce9.mp4: its name is not valid UTF-8, so rename it\n"
    )


def test_brackets_and_stars_in_names_are_no_patterns(folder, write):
    write("ha[p]py/a[1].mp4", "sad/*.mp4")
    assert labels_of(folder) == {"ha[p]py/a[1].mp4": "ha[p]py", "sad/*.mp4": "sadness"}


def test_a_tilde_is_the_home(folder, write, monkeypatch, tmp_path):
    write("happy/a.mp4", "sad/b.mp4")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load_clips("~/clips", "train")) == 2


# Columns that are used by their names


def rows_with(**columns) -> list[dict]:
    """Two rows with the values of some columns; the first row has the first value."""
    rows = [{"file_name": "a.mp4", "label": "fear"}, {"file_name": "b.mp4", "label": "anger"}]
    return [row | {name: values[i] for name, values in columns.items()} for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("intensity", 2),
        ("intensity", "strong"),
        ("intensity", [0.5, "a"]),
        ("intensity", [0.5, None]),
        ("intensity", [0.5, float("nan")]),
        ("intensity", [0.5, 7]),
        ("intensity", [True]),
        ("intensity", {"a": 1}),
        ("action_units", ["AU12", "AU6"]),
        ("action_units", "AU12"),
        ("action_units", {"AU12": 1}),
        ("action_units", {"AU12": [1, -1]}),
        ("action_units", {"AU12": [0, 1], "AU6": [0, 1, 2]}),
    ],
)
def test_a_column_of_evaluation_never_stops_training(column, value, folder, write, caplog):
    good = {"intensity": [0, 1], "action_units": {"AU12": [0, 1]}}[column]
    write("a.mp4", "b.mp4", metadata="metadata.jsonl", rows=rows_with(**{column: [good, value]}))
    with caplog.at_level(logging.WARNING, "tgdfer"):
        clips = load_clips(str(folder), "train")
    assert clips.intensity is None and clips.activity is None
    (sentence,) = [record.getMessage() for record in caplog.records]
    assert f"in column {column!r} of row 1 (b.mp4), but it must be" in sentence and "\n" not in sentence


def test_columns_that_fit_are_used(folder, write):
    rows = rows_with(intensity=[[0, 0.5], []], action_units=[{"AU1": [1, 2], "AU2": [0.5, 1]}, None], person=[7, " "])
    write("a.mp4", "b.mp4", metadata="metadata.jsonl", rows=rows)
    clips = load_clips(str(folder), "train")
    assert clips.intensity == [[0, 0.5], None] and clips.activity == [[1.5, 3.0], None]
    assert clips.people == ["7", "clip 1 of train"]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"label": ["fear", "  "]}, r"1 clips without a label, the first in row 1 \(b.mp4\)"),
        ({"label": ["fear", None]}, r"1 clips without a label, the first in row 1 \(b.mp4\)"),
        ({"label": ["fear", 3]}, r"contains ints: .*row 1, b.mp4"),
        ({"label": ["fear", ["anger"]]}, r"contains lists: .*row 1, b.mp4"),
        ({"person": ["p", ["q"]]}, r"\['q'\] in column 'person' of row 1 \(b.mp4\)"),
    ],
)
def test_columns_that_training_needs_say_column_and_row(columns, sentence, folder, write):
    write("a.mp4", "b.mp4", metadata="metadata.jsonl", rows=rows_with(**columns))
    with pytest.raises(UserError, match=rf"^[^\n]*{sentence}[^\n]*$"):
        load_clips(str(folder), "train")


def test_a_row_without_a_video(tmp_path, clip):
    import datasets

    features = datasets.Features({"video": datasets.Video(decode=False), "label": datasets.Value("string")})
    videos = [{"path": None, "bytes": clip.read_bytes()}, None]
    rows = datasets.Dataset.from_dict({"video": videos, "label": ["fear", "anger"]}, features=features)
    (tmp_path / "data").mkdir()
    rows.to_parquet(tmp_path / "data" / "train-00000.parquet")
    with pytest.raises(UserError, match="has 1 rows without a video, the first is row 1: remove them"):
        load_clips(str(tmp_path), "train")


def test_a_single_label_folder_that_datasets_reads_is_named(write, folder) -> None:
    """`datasets` reads a folder whose README configures its files, and drops labels if there is only one folder."""
    write("train/fear/a.mp4", "train/fear/b.mp4")
    files = 'configs:\n- config_name: default\n  data_files:\n  - {split: train, path: "train/*/*.mp4"}\n'
    (folder / "README.md").write_text(f"---\n{files}---\n", encoding="utf-8")
    with pytest.raises(UserError, match="has only one class, 'fear': at least two label folders are needed"):
        load_clips(str(folder), "train")


@pytest.mark.parametrize("extra", ["", "more"])
def test_a_row_of_csv_with_too_many_cells(extra, write, folder):
    write("a.mp4", "b.mp4")
    (folder / "metadata.csv").write_text(f"file_name,label\na.mp4,joy,{extra}\nb.mp4,fear\n")
    if not extra:
        assert load_clips(str(folder), "train").labels == ["happiness", "fear"]
    else:
        with pytest.raises(UserError, match=r"metadata.csv cannot be read \(row 1 has more cells than the header\)"):
            load_clips(str(folder), "train")


def test_pictures_beside_videos_are_left_out_with_the_reason(folder, write, caplog):
    write("train/happy/a.mp4", "train/sad/b.mp4")
    (folder / "train" / "sad" / "c.jpg").write_bytes(b"a picture")
    (folder / "overview.png").write_bytes(b"a picture")
    clips = load_clips(str(folder), "train")
    assert clips.files == ["train/happy/a.mp4", "train/sad/b.mp4"] and list(clips.left_out) == ["sad/c.jpg"]
    assert "put them into a data set of their own: sad/c.jpg" in caplog.text


def test_a_column_of_splits_is_not_passed_over(folder, write):
    """The clips of both splits would be trained on."""
    rows = [{"file_name": f"{i}.mp4", "label": "xy"[i % 2], "split": ["train", "Test"][i // 2]} for i in range(4)]
    write(*[row["file_name"] for row in rows], metadata="metadata.jsonl", rows=rows)
    with pytest.raises(UserError, match=r"Column 'split' .* names the splits test, train, .* in 'train': splits are"):
        load_clips(str(folder), "train")
    one = [row | {"split": "train"} for row in rows]
    write(*[row["file_name"] for row in rows], metadata="metadata.jsonl", rows=one)
    assert len(load_clips(str(folder), "train")) == 4


def test_folders_of_frames_are_no_clips(folder):
    for name in ("train/happy/one/1.jpg", "train/happy/one/2.jpg", "train/sad/two/1.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    with pytest.raises(UserError, match="has folders of frames, such as train/happy/one: .* encode each folder"):
        load_clips(str(folder), "train")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            b"file_name;label\na.mp4;x\n",
            "no file_name, only the columns 'file_name;label': separate columns by commas",
        ),
        ("file_name,label\na.mp4,f\u00fcr\n".encode("latin-1"), r"metadata\.csv is not UTF-8 .*: save it as UTF-8"),
    ],
)
def test_tables_of_other_programs_are_told_apart(folder, write, content, sentence):
    write("a.mp4", "b.mp4")
    (folder / "metadata.csv").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        load_clips(str(folder), "train")
