"""Analyses a video with the `fer` package: `python fer_video.py VIDEO EVERY THREADS`.

It runs in the environment of `fer_whole.py`, and imports no code of this project.
"""

import os
import sys
import tempfile


def main(video: str, every: int, threads: int) -> None:
    """Analyses every `every`-th frame with the default detector of `fer`.

    Unlike `Video.analyze` with its defaults, this function does not write pictures or a video.

    Args:
        video (`str`): Path of the video.
        every (`int`): Step between the analysed frames.
        threads (`int`): Number of threads.
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
