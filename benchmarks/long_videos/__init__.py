"""Are segments of emotion found in long videos, and what does a long file cost? On rendered videos."""
