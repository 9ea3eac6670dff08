"""Analyses a video with the `fer` package: `python fer_video.py VIDEO EVERY THREADS`.

It runs in the environment of `fer_whole.py` and imports nothing of this project.
"""

import os
import sys
import tempfile


def main(video: str, every: int, threads: int) -> None:
    """Analyses each `every`-th frame with the detector that `fer` takes by default.

    It writes no pictures and no video, which `Video.analyze` would do by default.
    """
    # TensorFlow and OpenCV read these when they are imported.
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(threads)
    import cv2
    from fer.classes import Video
    from fer.fer import FER

    cv2.setNumThreads(threads)
    detector = FER()
    with tempfile.TemporaryDirectory() as folder:
        Video(video, outdir=folder).analyze(
            detector,
            frequency=every,
            output="pandas",
            save_frames=False,
            save_video=False,
            annotate_frames=False,
            zip_images=False,
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
