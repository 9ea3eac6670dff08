"""The Space: a web page (Gradio) on which people try a model with their own clips."""
