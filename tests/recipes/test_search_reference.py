"""The reference of `tgdfer-tiny` for searching."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tgdfer
from recipes.tgdfer_tiny import search_reference
from recipes.tgdfer_tiny.search_reference import Faces, write_reference
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.search_tgdfer import SearchReference
from tgdfer.training.errors import UserError


def encoded(picture: np.ndarray) -> dict:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return {"bytes": file.getvalue()}


def test_the_reference_has_photographs_of_the_validation_split_and_rendered_faces(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rows = [
        {"image": encoded(rng.integers(0, 256, (48, 48), dtype=np.uint8)), "split": split, "near": near}
        for split, near in [("train", ""), ("test", ""), ("validation", "test"), *[("validation", "")] * 20]
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "faces.parquet")
    # No detector: the face fills the photograph, except in one of them.
    seen = []
    monkeypatch.setattr(search_reference, "load_detector", lambda *_: ("", None))
    monkeypatch.setattr(
        search_reference, "crop_face", lambda picture, _: seen.append(1) or (None if len(seen) == 3 else picture)
    )
    folder = shutil.copytree(tgdfer.tgdfer_tiny(), tmp_path / "model")
    before = json.loads((folder / "processor_config.json").read_text())
    reference = write_reference(folder, Faces(tmp_path / "faces.parquet", rendered=16), lambda _: None)
    assert (
        reference.source == ("19 photographs of the validation split of FER2013 (FER+), and 16 rendered faces")
        and len(seen) == 20
    )
    after = json.loads((folder / "processor_config.json").read_text())
    assert {name for name in after if after[name] != before.get(name)} == {"search_reference"}
    saved = SearchReference.from_dict(TGDFERProcessor.from_pretrained(folder).search_reference)
    assert saved.source == reference.source and saved.noise == reference.noise


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "faces.parquet").write_text("x")
    with pytest.raises(UserError, match=r"faces.parquet cannot be read"):
        write_reference(tgdfer.tgdfer_tiny(), Faces(Path(tmp_path / "faces.parquet")), lambda _: None)


def test_the_package_has_a_reference_that_says_what_it_shows():
    saved = SearchReference.from_dict(TGDFERProcessor.from_pretrained(tgdfer.tgdfer_tiny()).search_reference)
    assert saved.mean.shape == (192,) and "1973 photographs of the validation split" in saved.source
    assert (tgdfer.tgdfer_tiny() / "processor_config.json").stat().st_size < 100_000
