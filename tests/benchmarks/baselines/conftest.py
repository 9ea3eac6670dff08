"""All rows of the baselines, measured once on small clips."""

from dataclasses import replace

import pytest
from made_up_results import FAR

from benchmarks.baselines.rows import rows_of
from benchmarks.harness import linear_rows, lora
from benchmarks.harness.benchmark_dataset import BenchmarkDataset, real_dataset, rendered_dataset
from benchmarks.harness.runner import run_rows


@pytest.fixture(scope="session")
def measured(settings, clips_folder, tmp_path_factory):
    """All rows on rendered clips and on a folder."""
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        # Epochs of TG-DFER and rates of the others are many, and not what is tested here.
        patch.setattr(lora, "LORA_RATES", (1e-3, 1e-2))
        patch.setattr(linear_rows, "HEAD_RATES", (1e-3, 1e-2))
        patch.setattr(lora, "WARM_UP", replace(lora.WARM_UP, epochs=1))
        usual = BenchmarkDataset.config
        patch.setattr(BenchmarkDataset, "config", lambda *a, **o: usual(*a, **{"epochs": 1} | o))
        for dataset in (rendered_dataset(settings, work), real_dataset(settings, clips_folder)):
            assert run_rows(dataset, rows_of(dataset), work, "the command", FAR)
    return work
