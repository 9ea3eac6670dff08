"""Recordings: who is in a video of any length, read person by person and a few frames at a time."""

IMPORTS


def test_windows_of_crops(squares):
    long = np.concatenate([TWO, np.stack([drawn()] * 16), TWO])
    found = list(make(face_crop="largest").read_windows(long, hop=8))
    assert [shades(window.frames) for window in found] == [[200] * 8] * 2
    # Seconds at the rate that is assumed.
    assert found[0].missing.tolist() == [number / 25 for number in range(8, 24)] and not len(found[1].missing)
    assert len(list(make(face_crop="largest", no_face="full_frame").read_windows(long, hop=8))) == 4
    with pytest.raises(NoFaceError):
        list(make(face_crop="largest").read_windows(long[8:24], hop=8))


def test_windows_of_a_long_file_follow_one_face(squares, tmp_path):
    """The file is decoded twice, and every window has its own frames of the path."""
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "gray"
        for number in range(100):
            shown = (10 + number // 4, 20, 50, 200)
            picture = drawn(shown) if not 30 <= number < 70 else drawn()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    told = []
    found = list(make(face_crop="largest").read_windows(tmp_path / "a.mkv", interval=0.08, progress=told.append))
    assert told == sorted(told) and told[0] >= 0 and told[-1] == 1
    times = np.unique(np.concatenate([window.seconds.numpy() for window in found])).round(3)
    assert times.min() == pytest.approx(0.04) and np.diff(times).max() > 1.5
    gone = found[0].missing
    assert gone.min() >= 1.2 - 1e-6 and gone.max() < 2.8 and len(gone) == 20
    assert all(not len(window.missing) for window in found[1:])
    for window in found:
        assert window.found.all() and shades(window.frames) == [200] * len(window.frames)
        for second, box in zip(window.seconds.tolist(), window.boxes.tolist(), strict=True):
            assert box[0] == pytest.approx(10 + round(second * 25) // 4)
    whole = list(make(face_crop="largest", no_face="full_frame").read_windows(tmp_path / "a.mkv", interval=0.08))
    assert len(np.unique(np.concatenate([window.seconds.numpy() for window in whole]))) == len(times) + 20
    with pytest.raises(NoFaceError, match="no face in 20 of 50 sampled frames"):
        list(make(face_crop="largest", no_face="error").read_windows(tmp_path / "a.mkv", interval=0.08))


def test_clips_and_long_videos_are_told_apart(squares, clip):
    processor = make()
    (part,) = processor.read_parts(clip, 8, longest=2.0)
    assert part.seconds.tolist() == pytest.approx([number / 25 for number in range(2, 40, 5)], abs=1e-6)
    windows = list(processor.read_parts(clip, 4, longest=1.0, interval=0.2))
    assert [len(window.frames) for window in windows] == [4, 4, 4]
    assert windows[0].frames.shape[2:] == (32, 48), "already at the size of the model, as few fit into memory"
