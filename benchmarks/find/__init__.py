"""Retrieval of moments by phrases: in rendered videos with known action units, and among photographs."""
