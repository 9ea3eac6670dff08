"""Virtual environment with the complete `fer` package, including TensorFlow and OpenCV."""

from benchmarks.real_faces.fer_environment import VERSION, FerEnvironment


class FullFerEnvironment(FerEnvironment):
    """Virtual environment with all packages that `fer` needs to analyse videos. It takes 3 GB of disk space."""

    # `fer` imports `pkg_resources`, which later versions of setuptools do not contain.
    packages = ((f"fer=={VERSION}", "opencv-contrib-python<5", "setuptools<81"),)
