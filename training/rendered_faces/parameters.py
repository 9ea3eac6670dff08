"""The parameters of the generator of rendered faces."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RenderedFaces:
    """Parameters of the generator. They decide a data set, together with the numbers of clips and people, and a seed.

    Ranges are `(lowest, highest)`. A value is drawn uniformly from each range once per clip.

    Attributes:
        size: Width and height of a frame in pixels.
        supersampling: Faces are drawn larger by this factor and averaged down.
        fps: Frames per second.
        frames: Frames per clip.
        strength: Scale of the action units at the apex; 1 is the full prototype.
        share: Share of the frames in which the emotion is at half of its apex or more.
        onset: Seconds from neutral to apex.
        offset: Seconds from apex to neutral.
        posed_onset: `onset` of a posed smile, which is quicker.
        posed_offset: `offset` of a posed smile, which ends abruptly.
        lookalikes: Share of the emotional clips with a movement that resembles an emotion and differs from it only in
            time: a posed smile, brows that rise in speech, lids that close slowly. Every neutral clip has one.
        movements: Unrelated movements of single action units in a clip. A neutral clip has more of them, so that all
            clips move equally.
        movement: Intensity of an unrelated movement.
        blinks: Blinks per second.
        speech: Share of the clips in which the person speaks for a while.
        resting: Largest offset of an action unit in the resting face of a person.
        turn: Largest turn of the head to a side, in degrees.
        nod: Largest turn of the head up or down, in degrees.
        tilt: Largest in-plane rotation, in degrees.
        shift: Largest shift of the face, in 112ths of the frame.
        scale: Size of the face; at 1 the head fills the height of the frame, as in aligned faces.
        restlessness: Drift of the pose within a clip, as a share of `turn`, `nod`, `tilt` and `shift`.
        shake: Standard deviation of the camera shake from frame to frame, in 112ths of the frame.
        light_drift: Largest change of the brightness and of the side of the light within a clip, as a share of their
            range.
        occlusion: Share of the clips in which a hand or an object hides a part of the face for a while.
        shutter: Share of the time between two frames in which the shutter is open, which causes motion blur.
        noise: Standard deviation of the sensor noise in grey levels.
        crf: Constant rate factor of the H.264 encoder; 18 is visually lossless, 32 shows blocks.
    """

    size: int = 112
    supersampling: int = 3
    fps: int = 25
    frames: tuple[int, int] = (16, 96)
    strength: tuple[float, float] = (0.6, 1.0)
    share: tuple[float, float] = (0.15, 0.6)
    onset: tuple[float, float] = (0.2, 0.8)
    offset: tuple[float, float] = (0.2, 1.2)
    posed_onset: tuple[float, float] = (0.04, 0.12)
    posed_offset: tuple[float, float] = (0.04, 0.1)
    lookalikes: float = 0.3
    movements: tuple[int, int] = (0, 2)
    movement: tuple[float, float] = (0.25, 0.7)
    blinks: float = 0.3
    speech: float = 0.2
    resting: float = 0.4
    turn: float = 20.0
    nod: float = 10.0
    tilt: float = 9.0
    shift: float = 4.0
    scale: tuple[float, float] = (0.86, 1.06)
    restlessness: float = 0.3
    shake: float = 0.3
    light_drift: float = 0.3
    occlusion: float = 0.2
    shutter: tuple[float, float] = (0.0, 0.8)
    noise: tuple[float, float] = (0.0, 5.0)
    crf: tuple[int, int] = (18, 30)


def check_parameters(faces: RenderedFaces) -> None:
    """Checks that clips can be drawn with these parameters.

    Raises:
        ValueError: If a parameter is outside its range.
    """
    for name in ("frames", "share", "onset", "offset", "strength", "scale"):
        low, high = getattr(faces, name)
        if not 0 < low <= high:
            raise ValueError(f"{name} is ({low}, {high}), but must be a range (lowest, highest) above 0.")
    if faces.share[1] >= 1:
        raise ValueError(f"share reaches {faces.share[1]}, but a clip needs neutral frames too: use less than 1.")
    if faces.frames[0] < 8:
        raise ValueError(f"frames begins at {faces.frames[0]}, but a clip needs at least 8 to show an emotion.")
    if faces.size < 32 or faces.size % 2:
        raise ValueError(f"size is {faces.size}, but must be an even number of pixels, at least 32.")
