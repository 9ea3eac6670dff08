"""The parameters of the generator of rendered faces."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RenderedFaces:
    """Parameters of the generator. With the numbers of clips and people and a seed, they determine a data set.

    Ranges are `(minimum, maximum)`. A value is drawn uniformly from each range once per clip.

    Attributes:
        size (`int`, *optional*, defaults to 112): Width and height of a frame in pixels.
        supersampling (`int`, *optional*, defaults to 3): Factor by which faces are drawn larger before they are scaled
            down.
        fps (`int`, *optional*, defaults to 25): Frames per second.
        frames (`tuple[int, int]`, *optional*, defaults to `(16, 96)`): Frames per clip.
        strength (`tuple[float, float]`, *optional*, defaults to `(0.6, 1.0)`): Scale of the action units at the apex.
            1 is the full prototype.
        share (`tuple[float, float]`, *optional*, defaults to `(0.15, 0.6)`): Share of the frames in which the emotion
            reaches half of its apex.
        onset (`tuple[float, float]`, *optional*, defaults to `(0.2, 0.8)`): Seconds from neutral to apex.
        offset (`tuple[float, float]`, *optional*, defaults to `(0.2, 1.2)`): Seconds from apex to neutral.
        posed_onset (`tuple[float, float]`, *optional*, defaults to `(0.04, 0.12)`): `onset` of a posed smile, which is
            shorter.
        posed_offset (`tuple[float, float]`, *optional*, defaults to `(0.04, 0.1)`): `offset` of a posed smile, which
            ends abruptly.
        lookalikes (`float`, *optional*, defaults to 0.3): Share of the emotional clips with a movement that resembles
            an emotion and differs from it only in time: a posed smile, brows that rise in speech, lids that close
            slowly. Every neutral clip has one.
        movements (`tuple[int, int]`, *optional*, defaults to `(0, 2)`): Number of unrelated movements of single action
            units in a clip. A neutral clip has more of them, so that all clips move equally.
        movement (`tuple[float, float]`, *optional*, defaults to `(0.25, 0.7)`): Intensity of an unrelated movement.
        blinks (`float`, *optional*, defaults to 0.3): Blinks per second.
        speech (`float`, *optional*, defaults to 0.2): Share of the clips in which the person speaks for a while.
        resting (`float`, *optional*, defaults to 0.4): Maximum offset of an action unit in the resting face of a
            person.
        turn (`float`, *optional*, defaults to 20.0): Maximum rotation of the head to a side, in degrees.
        nod (`float`, *optional*, defaults to 10.0): Maximum rotation of the head up or down, in degrees.
        tilt (`float`, *optional*, defaults to 9.0): Maximum in-plane rotation, in degrees.
        shift (`float`, *optional*, defaults to 4.0): Maximum shift of the face, in 112ths of the frame.
        scale (`tuple[float, float]`, *optional*, defaults to `(0.86, 1.06)`): Size of the face. At 1 the head fills
            the height of the frame, as in aligned faces.
        restlessness (`float`, *optional*, defaults to 0.3): Drift of the pose within a clip, as a share of `turn`,
            `nod`, `tilt` and `shift`.
        shake (`float`, *optional*, defaults to 0.3): Standard deviation of the camera shake between frames, in 112ths
            of the frame.
        light_drift (`float`, *optional*, defaults to 0.3): Maximum change of the brightness and of the side of the
            light within a clip, as a share of their range.
        occlusion (`float`, *optional*, defaults to 0.2): Share of the clips in which a hand or an object hides part of
            the face for a while.
        shutter (`tuple[float, float]`, *optional*, defaults to `(0.0, 0.8)`): Share of the time between two frames in
            which the shutter is open, which causes motion blur.
        noise (`tuple[float, float]`, *optional*, defaults to `(0.0, 5.0)`): Standard deviation of the sensor noise in
            grey levels.
        crf (`tuple[int, int]`, *optional*, defaults to `(18, 30)`): Constant rate factor of the H.264 encoder. 18 is
            visually lossless, 32 shows blocks.
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
            raise ValueError(f"{name} is ({low}, {high}), but must be a range (minimum, maximum) above 0.")
    if faces.share[1] >= 1:
        raise ValueError(f"share reaches {faces.share[1]}, but a clip needs neutral frames too: use less than 1.")
    if faces.frames[0] < 8:
        raise ValueError(f"frames begins at {faces.frames[0]}, but a clip needs at least 8 to show an emotion.")
    if faces.size < 32 or faces.size % 2:
        raise ValueError(f"size is {faces.size}, but must be an even number of pixels, at least 32.")
