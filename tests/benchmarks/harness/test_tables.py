"""Paragraphs of the reports."""

from benchmarks.harness.tables import paragraph

COMMAND = "python -m benchmarks.prediction --videos one.mp4 --videos two.mp4 --face-model " + "face_" * 30


def test_a_command_stays_on_one_line():
    lines = paragraph(f"{'word ' * 20}Command: `{COMMAND}`. {'word ' * 40}").splitlines()
    assert any(f"`{COMMAND}`." in line for line in lines)
    assert all(len(line) <= 119 for line in lines if COMMAND not in line)
    assert len(lines) > 3


def test_names_are_not_broken_at_their_hyphens():
    lines = paragraph("well-known " * 40, "- ", "  ").splitlines()
    assert lines[0].startswith("- well-known") and lines[1].startswith("  well-known")
    assert not any(line.endswith("well-") for line in lines)
