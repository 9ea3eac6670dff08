"""The network of TG-DFER. Every file of this folder is copied into each saved model."""
