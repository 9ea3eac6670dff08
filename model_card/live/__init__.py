"""The live page: the expressions of the people in front of a camera, while it runs."""
