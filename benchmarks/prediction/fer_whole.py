"""The whole `fer` package with TensorFlow and OpenCV, in a virtual environment of its own."""

from benchmarks.real_faces.fer_environment import VERSION, FerEnvironment


class WholeFer(FerEnvironment):
    """An environment with everything that `fer` needs to analyse videos; 3 GB."""

    # It imports `pkg_resources`, which later versions of setuptools do not have.
    packages = ((f"fer=={VERSION}", "opencv-contrib-python<5", "setuptools<81"),)
