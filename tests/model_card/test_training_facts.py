"""What a card says about the options of a training."""

from tgdfer.model_card.training_facts import describe_lora, training_facts

LORA = {"layers": 4, "text_layers": 0, "rank": 8, "alpha": 16, "dropout": 0.0}


def test_lora_with_other_fields() -> None:
    plain = "rank 8, alpha 16, dropout 0.0 in the last 4 blocks of the vision tower; merged into the weights"
    assert describe_lora({"lora": LORA}) == plain
    both = {"options": {"use_dora": True, "r": 4}, "text_options": {"target_modules": ["q_proj"]}}
    assert describe_lora({"lora": LORA | both}) == (
        "rank 8, alpha 16, dropout 0.0 in the last 4 blocks of the vision tower; vision tower: use_dora True, r 4; "
        "text tower: target_modules ['q_proj']; merged into the weights"
    )
    chosen = {"options": {"target_modules": ["fc1"]}}
    assert describe_lora({"lora": LORA | chosen}).startswith("rank 8, alpha 16, dropout 0.0; vision tower: target")


def test_options_that_were_used() -> None:
    unused = {"ema": None, "mixup": 0.0, "early_stopping": None, "freeze": [], "unfreeze": [], "clip_lr": 1e-5}
    assert "Options" not in training_facts({}, unused)
    used = {"ema": 0.999, "mixup": 0.2, "early_stopping": 3, "unfreeze": ["vision"]}
    options = str(training_facts({}, unused | used)["Options"])
    assert all(text in options for text in ("ema: 0.999", "mixup: 0.2", "early_stopping: 3", "clip_lr: 1e-05"))
    assert "unfreeze: ['vision']" in options and " freeze" not in options


def test_epochs_of_a_training_that_stopped_early() -> None:
    assert training_facts({"epochs": 20}, {})["Epochs"] == 20
    assert training_facts({"epochs": 20, "stopped_after_epoch": 7}, {})["Epochs"] == "7 of 20, stopped early"


def test_people_in_two_splits() -> None:
    shared = {"validation": {"train": 3}, "test": {"photographs": 1, "validation": 2}}
    facts = training_facts({"validation": "by split", "shared_people": shared}, {})
    assert facts["Held out for validation"] == "by split; 3 of its people are also in the training split"
    assert facts["Test split"].endswith("; 2 of its people are also in the validation split")
    assert "Test split" not in training_facts({"validation": "by person"}, {})
