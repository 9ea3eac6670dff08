"""The model card of a trained model, and its way to the Hub."""
