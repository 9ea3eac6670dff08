"""`Trainer` of transformers with our model, processor and collator, as docs/guides/trainer.md has it."""

from pathlib import Path

from transformers import Trainer, TrainingArguments

from tgdfer import TGDFERForVideoClassification, TGDFERProcessor
from tgdfer.training.data.batches import ClipDataset
from tgdfer.training.data.loading import load_clips


def test_with_clips_processor_and_collator(clips_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    words = {"happiness": ["a smile"], "sadness": ["a frown"], "neutral": ["at rest"]}
    processor = TGDFERProcessor.from_clip(str(clip_folder), words, num_frames=4)
    model = TGDFERForVideoClassification.from_clip(clip_folder, processor.class_prompts(), num_frames=4, lora_layers=1)
    model.attach_lora()
    classes = list(model.config.id2label.values())
    sets = {
        split: ClipDataset(
            load_clips(str(clips_folder), split), classes, processor.video_processor, 4, training=split == "train"
        )
        for split in ("train", "test")
    }
    run = Trainer(
        model,
        TrainingArguments(
            str(tmp_path),
            max_steps=2,
            per_device_train_batch_size=4,
            remove_unused_columns=False,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=sets["train"],
        eval_dataset=sets["test"],
        data_collator=sets["train"].collate,
        processing_class=processor,
        compute_metrics=lambda seen: {"accuracy": (seen.predictions.argmax(-1) == seen.label_ids).mean()},
    )
    run.train()
    assert 0 <= run.evaluate()["eval_accuracy"] <= 1
    run.save_model(str(tmp_path / "model"))
    assert TGDFERForVideoClassification.from_pretrained(tmp_path / "model").has_lora
    assert TGDFERProcessor.from_pretrained(tmp_path / "model").descriptions == words
