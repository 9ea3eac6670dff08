"""Model cards, and publishing of trained models on the Hub."""
