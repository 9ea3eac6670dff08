"""The video processor, by the names of the tests that transformers has for its own."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoVideoProcessor, CLIPImageProcessor, VideoMAEVideoProcessor
from transformers.image_utils import SizeDict
from transformers.video_utils import VideoMetadata

from tgdfer.processing.frame_sampling_tgdfer import sample_indices
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor, VideoDecodeError


@pytest.fixture
def processor():
    return TGDFERVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, num_frames=8)


def array(num_frames=8, height=40, width=56, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def test_from_and_save_pretrained(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "video_preprocessor_config.json").read_text())["auto_map"] == {
        "AutoVideoProcessor": "video_processing_tgdfer.TGDFERVideoProcessor"
    }
    assert {"video_processing_tgdfer.py", "video_reading_tgdfer.py"} <= {path.name for path in tmp_path.iterdir()}
    for cls in (TGDFERVideoProcessor, AutoVideoProcessor):
        loaded = cls.from_pretrained(tmp_path)
        assert type(loaded) is TGDFERVideoProcessor
        assert loaded.to_dict() == processor.to_dict()
    assert TGDFERVideoProcessor.from_pretrained(tmp_path, num_frames=4).num_frames == 4


def test_to_json_string_and_file(processor, tmp_path):
    told = json.loads(processor.to_json_string())
    assert told["size"] == {"shortest_edge": 32} and told["num_frames"] == 8 and told["sampling"] == "segments"
    processor.to_json_file(tmp_path / "a.json")
    assert TGDFERVideoProcessor.from_json_file(tmp_path / "a.json").to_dict() == processor.to_dict()


def test_from_dict_with_kwargs(processor):
    again = TGDFERVideoProcessor.from_dict(processor.to_dict())
    assert again.to_dict() == processor.to_dict()
    other = TGDFERVideoProcessor.from_dict(processor.to_dict(), size=42, crop_size=84)
    assert dict(other.size) == {"shortest_edge": 42} and dict(other.crop_size) == {"height": 84, "width": 84}


def test_init_without_params():
    processor = TGDFERVideoProcessor()
    assert (processor.num_frames, dict(processor.size)) == (16, {"shortest_edge": 224})


def test_explicit_none_preserved(tmp_path):
    processor = TGDFERVideoProcessor(do_resize=None)
    assert processor.to_dict()["do_resize"] is None
    processor.save_pretrained(tmp_path)
    assert TGDFERVideoProcessor.from_pretrained(tmp_path).do_resize is None


def test_override_instance_attributes_does_not_affect_other_instances(processor, clip):
    usual, before = TGDFERVideoProcessor().to_dict(), processor.to_dict()
    other = TGDFERVideoProcessor(size={"shortest_edge": 3}, num_frames=2, image_mean=[0.0, 0.0, 0.0])
    other.crop_size = {"height": 3, "width": 3}
    assert TGDFERVideoProcessor().to_dict() == usual
    processor(clip, num_frames=3, size={"shortest_edge": 40}, sampling="dense", stride=2, do_normalize=False)
    assert processor.to_dict() == before, "nor does a call change what the next one does"


def test_nested_input(processor):
    clips = [array(seed=0), array(seed=1, height=64)]
    batch = processor([list(clip) for clip in clips], return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(batch, processor(clips, return_tensors="pt")["pixel_values_videos"])
    one = processor(list(clips[0]), return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(one, batch[:1])


def test_call_numpy_4_channels(processor):
    clips = [np.concatenate([array(seed=seed), np.full((8, 40, 56, 1), 255, np.uint8)], -1) for seed in (0, 1)]
    options = {"input_data_format": "channels_last", "image_mean": 0.0, "image_std": 1.0, "return_tensors": "pt"}
    for videos in (clips, [[Image.fromarray(frame) for frame in clip] for clip in clips]):
        assert processor(videos, **options)["pixel_values_videos"].shape == (2, 8, 3, 32, 32)
        assert processor(videos[0], **options)["pixel_values_videos"].shape == (1, 8, 3, 32, 32)


def test_a_picture_is_a_video_of_one_frame(processor, clip):
    picture = array(1)
    expected = processor(picture, return_tensors="pt")
    for single in (Image.fromarray(picture[0]), picture[0], torch.from_numpy(picture[0]).permute(2, 0, 1)):
        found = processor(single, return_tensors="pt")
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert torch.equal(processor.read_clip(single)[0], torch.from_numpy(picture).permute(0, 3, 1, 2))
    mixed = processor([Image.fromarray(picture[0]), clip], return_tensors="pt")
    assert mixed["frame_mask"].sum(1).tolist() == [1, 8]


@pytest.mark.parametrize("kind", ["pil", "numpy", "pytorch"])
def test_call(kind, processor):
    clips = [array(seed=0), array(seed=1, height=64)]
    convert = {
        "pil": lambda clip: [Image.fromarray(frame) for frame in clip],
        "numpy": lambda clip: clip,
        "pytorch": lambda clip: torch.from_numpy(clip).permute(0, 3, 1, 2),
    }[kind]
    videos = [convert(clip) for clip in clips]
    one, two = processor(videos[0], return_tensors="pt"), processor(videos, return_tensors="pt")
    assert set(two) == {"pixel_values_videos", "frame_mask"}
    assert one["pixel_values_videos"].shape == (1, 8, 3, 32, 32)
    assert two["pixel_values_videos"].shape == (2, 8, 3, 32, 32)
    assert two["pixel_values_videos"].dtype == torch.float32
    assert two["frame_mask"].dtype == torch.bool and two["frame_mask"].all()
    assert torch.equal(one["pixel_values_videos"][0], two["pixel_values_videos"][0])


def test_pixels_are_those_of_the_clip_image_processor(processor, clip_folder):
    images = CLIPImageProcessor.from_pretrained(clip_folder)
    like = TGDFERVideoProcessor(
        size=images.size, crop_size=images.crop_size, image_mean=images.image_mean, image_std=images.image_std
    )
    clip = array()
    expected = images([Image.fromarray(frame) for frame in clip], return_tensors="pt")["pixel_values"]
    assert torch.allclose(
        like(clip, num_frames=len(clip), return_tensors="pt")["pixel_values_videos"][0], expected, atol=1e-6
    )


def test_pictures_of_the_right_size_are_not_resampled(processor):
    clip = torch.from_numpy(array(height=32, width=32)).permute(0, 3, 1, 2).contiguous()
    assert processor.resize(clip, SizeDict(shortest_edge=32)).data_ptr() == clip.data_ptr()
    assert torch.equal(processor(clip, do_normalize=False, do_rescale=False)["pixel_values_videos"][0], clip)


def test_pictures_that_no_camera_makes_stay_small(processor):
    thin = array(1, 2, 4000)
    assert processor.resize(torch.from_numpy(thin).permute(0, 3, 1, 2), SizeDict(shortest_edge=32)).shape[-1] == 512
    middle = processor(thin[:, :, 1984:2016])["pixel_values_videos"]
    assert torch.allclose(processor(thin)["pixel_values_videos"], middle, atol=0.3)


def test_call_sample_frames(processor):
    clip, metadata = array(20), {"total_num_frames": 20, "fps": 10, "duration": 2.0}
    assert processor(clip, do_sample_frames=False)["pixel_values_videos"].shape[1] == 20
    assert processor(clip)["pixel_values_videos"].shape[1] == 8
    assert processor(clip, num_frames=3)["pixel_values_videos"].shape[1] == 3
    assert processor(clip, num_frames=99)["frame_mask"].sum(1).tolist() == [20]
    batch = processor([[clip]], fps=3, video_metadata=[[metadata]], return_metadata=True)
    assert batch["pixel_values_videos"].shape[1] == 6
    assert torch.allclose(batch["timestamps"], torch.tensor([[0.1, 0.5, 0.8, 1.1, 1.5, 1.8]]))
    assert batch["video_metadata"][0].frames_indices == [1, 5, 8, 11, 15, 18]
    with pytest.raises(ValueError, match="pass only one of them"):
        processor(clip, fps=3, num_frames=3, video_metadata=[metadata])
    with pytest.raises(ValueError, match="needs the times"):
        processor(clip, fps=3)
    with pytest.raises(ValueError, match="1 videos but 2 entries"):
        processor(clip, video_metadata=[metadata, metadata])
    with pytest.raises(ValueError, match="num_frames must be at least 1"):
        processor(clip, num_frames=0)
    processor.do_sample_frames = False
    assert processor(clip, num_frames=3)["pixel_values_videos"].shape[1] == 20


def test_sample_frames_are_those_that_a_call_takes(processor):
    clip, metadata = array(20), VideoMetadata(total_num_frames=20, fps=10)
    for options in ({}, {"num_frames": 3}, {"fps": 3}):
        batch = processor(clip, video_metadata=[metadata], return_metadata=True, **options)
        assert processor.sample_frames(metadata, **options).tolist() == batch["video_metadata"][0].frames_indices
    dense = TGDFERVideoProcessor(num_frames=4, sampling="dense", stride=3)
    assert dense.sample_frames(metadata).tolist() == [5, 8, 11, 14]
    with pytest.raises(ValueError, match="needs the times"):
        processor.sample_frames(VideoMetadata(total_num_frames=8), fps=3)
    with pytest.raises(ValueError, match="pass only one of them"):
        processor.sample_frames(metadata, num_frames=3, fps=3)


def test_cast_dtype(processor, clip):
    batch = processor(clip, return_tensors="pt")
    seconds = batch["timestamps"].clone()
    for dtype in (torch.float16, torch.bfloat16):
        cast = batch.to(dtype)
        assert cast["pixel_values_videos"].dtype == dtype
        assert cast["frame_mask"].dtype == torch.bool
        assert torch.equal(cast["timestamps"], seconds)
    assert batch.to("cpu", dtype=torch.float32)["pixel_values_videos"].dtype == torch.float32
    with pytest.raises(TypeError):
        batch.to(torch.bfloat16, "cpu")
    assert torch.equal(batch["timestamps"], seconds)
    batch["input_ids"] = torch.tensor([[1, 2, 3]])
    assert batch.to(torch.float16)["input_ids"].dtype == torch.int64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_can_compile_and_run_on_a_gpu(processor):
    clips = [torch.from_numpy(array(seed=seed)).permute(0, 3, 1, 2) for seed in (0, 1)]
    eager = processor(clips, device="cuda", do_sample_frames=False)["pixel_values_videos"]
    compiled = torch.compile(processor)(clips, device="cuda", do_sample_frames=False)["pixel_values_videos"]
    assert eager.is_cuda and torch.allclose(eager, compiled, rtol=1e-4, atol=1e-4)


def test_call_return_tensors_numpy(processor, clip):
    batch = processor(clip, return_tensors="np")
    assert {name: type(value) for name, value in batch.items()} == dict.fromkeys(batch, np.ndarray)


@pytest.mark.parametrize("settings", [{}, {"sampling": "dense", "stride": 2}, {"fps": 7.0}])
def test_a_clip_read_before_gives_the_same_batch(processor, clip, settings):
    for name, value in settings.items():
        setattr(processor, name, value)
    frames, seconds = processor.read_clip(clip)
    direct = processor(clip, return_tensors="pt")
    again = processor([frames], timestamps=[seconds], do_sample_frames=False, return_tensors="pt")
    assert set(direct) == set(again) == {"pixel_values_videos", "frame_mask", "timestamps"}
    for name in direct:
        assert torch.equal(direct[name], again[name]), name


def test_short_clips_are_padded_under_the_mask(processor, clip, video_writer, tmp_path):
    short = video_writer(tmp_path / "short.mp4", num_frames=3)
    batch = processor([clip, short], return_tensors="pt")
    assert batch["frame_mask"].tolist() == [[True] * 8, [True] * 3 + [False] * 5]
    pixels, seconds = batch["pixel_values_videos"][1], batch["timestamps"][1]
    assert torch.allclose(seconds, torch.tensor([0, 1, 2, 2, 2, 2, 2, 2]) / 25)
    assert torch.equal(pixels[2:], pixels[2].expand(6, -1, -1, -1))
    alone = processor(short, return_tensors="pt")
    assert torch.equal(alone["pixel_values_videos"][0], pixels), "so that clips can be batched afterwards"
    assert torch.equal(alone["frame_mask"][0], batch["frame_mask"][1])
    whole = processor([clip, short], fps=25, return_tensors="pt")
    assert whole["frame_mask"].sum(1).tolist() == [40, 3] and whole["frame_mask"].shape == (2, 40)
    assert processor(short, do_sample_frames=False, return_tensors="pt")["frame_mask"].shape == (1, 3)


def test_times_of_arrays(processor):
    clip = array(8)
    told = processor(clip, video_metadata=[VideoMetadata(total_num_frames=8, fps=4)])["timestamps"]
    assert torch.equal(told, torch.arange(8)[None] / 4)
    given = [0, 1, 2, 3, 5, 8, 13, 21]
    assert processor([clip], timestamps=[given], num_frames=8)["timestamps"].tolist() == [given]
    assert "timestamps" not in processor(clip)
    with pytest.raises(ValueError, match="8 frames needs 8 timestamps"):
        processor([clip], timestamps=[[1.0, 2.0]])


def test_a_video_without_times_does_not_change_the_others_of_its_batch(processor, clip):
    seconds = processor([array(3), clip])["timestamps"]
    assert seconds[0].isnan().all() and seconds.dtype == torch.float32
    assert torch.equal(seconds[1:], processor(clip)["timestamps"])


def test_floats_in_either_range(processor):
    clip = array(height=32, width=32)
    expected = processor(clip)["pixel_values_videos"]
    assert torch.allclose(processor(clip.astype(np.float32))["pixel_values_videos"], expected, atol=1e-5)
    assert torch.allclose(processor(clip.astype(np.float32) / 255)["pixel_values_videos"], expected, atol=1e-5)
    kept = processor(clip.astype(np.float32) / 255, do_rescale=False)["pixel_values_videos"]
    assert torch.allclose(kept, expected, atol=1e-5)


def test_floats_that_resizing_has_taken_out_of_the_range_are_still_in_it(processor):
    clip = array(height=32, width=32)
    expected = processor(clip)["pixel_values_videos"]
    floats = clip.astype(np.float32) / 255
    floats[0, 0, 0, 0], floats[1, 1, 1, 1] = 1.06, -0.06
    found = processor(floats)["pixel_values_videos"]
    assert (found - expected).abs().mean() < 0.01
    assert processor(floats * 255)["pixel_values_videos"].allclose(found, atol=1e-4)


@pytest.mark.parametrize(
    "change", [lambda a: a / 127.5 - 1, lambda a: (a / 255 - 0.45) / 0.22, lambda a: a * 257.0], ids=range(3)
)
def test_floats_in_another_range_are_refused(processor, change):
    clip = change(array(height=32, width=32).astype(np.float32))
    with pytest.raises(VideoDecodeError, match="are not the pixels of a video; scale them to 0 to 1, or to 0 to 255"):
        processor(clip)
    own = processor(clip, do_rescale=False, do_normalize=False)["pixel_values_videos"]
    assert own.max() == pytest.approx(clip.max(), rel=1e-3), "pixels that are prepared already stay as they are"


def _layouts(clip):
    """A clip (T, H, W, 3) as arrays and tensors that lie differently in memory."""
    first = np.ascontiguousarray(clip.transpose(0, 3, 1, 2))
    read_only = clip.copy()
    read_only.flags.writeable = False
    return {
        "channels last": clip,
        "channels first": first,
        "tensor": torch.from_numpy(clip),
        "tensor, channels first": torch.from_numpy(first),
        "tensor, channels last in memory": torch.from_numpy(clip).permute(0, 3, 1, 2),
        "backwards": clip[::-1].copy()[::-1],
        "mirrored twice": clip[:, :, ::-1].copy()[:, :, ::-1],
        "every other": np.repeat(clip, 2, 0)[::2],
        "read-only": read_only,
        "list": list(clip),
        "float": clip.astype(np.float32),
        "byte order": clip.astype(">f4"),
        "double, 0 to 1": torch.from_numpy(clip).double() / 255,
    }


@pytest.mark.parametrize("total", [8, 16, 13], ids=["all frames", "an even pace", "an uneven pace"])
@pytest.mark.parametrize("layout", _layouts(array()))
@pytest.mark.filterwarnings("error")
def test_arrays_have_the_pixels_of_videomae_however_they_lie_in_memory(processor, layout, total):
    settings = {
        name: getattr(processor, name) for name in ("size", "crop_size", "resample", "image_mean", "image_std")
    }
    clip, floats = array(num_frames=total), layout in ("float", "byte order", "double, 0 to 1")
    chosen = clip[sample_indices(total, 8)]
    expected = VideoMAEVideoProcessor(**settings)(chosen.astype(np.float32) if floats else chosen, return_tensors="pt")
    found = processor(_layouts(clip)[layout], return_tensors="pt")["pixel_values_videos"]
    tolerance = 1e-4 if floats else 0
    torch.testing.assert_close(found, expected["pixel_values"], atol=tolerance, rtol=0, check_dtype=False)


def test_large_pictures_are_resized_where_they_are(processor, monkeypatch):
    """None of them is copied, and the channels stay last in memory, where torchvision is fastest."""
    seen, resize = [], TGDFERVideoProcessor.resize

    def watch(self, image, *args, **options):
        seen.append(image)
        return resize(self, image, *args, **options)

    monkeypatch.setattr(TGDFERVideoProcessor, "resize", watch)
    for count in (8, 16, 13):  # all frames, every other one, and some at an uneven pace
        clip, before = array(num_frames=count), len(seen)
        processor(torch.from_numpy(clip))
        large = [image for image in seen[before:] if image.shape[-1] == 56]
        start, end = clip.ctypes.data, clip.ctypes.data + clip.nbytes
        assert sum(map(len, large)) == 8 and all(start <= image.data_ptr() < end for image in large)
        assert all(image.stride(1) == 1 and image.stride(3) == 3 for image in large)


def test_frames_that_are_read_may_be_changed(processor):
    clip = array()
    before = clip.copy()
    for video in (clip, torch.from_numpy(clip), list(clip), torch.from_numpy(clip).permute(0, 3, 1, 2)):
        processor.read_clip(video)[0].zero_()
        processor(video, do_resize=False, do_center_crop=False, do_normalize=False, return_tensors="pt")
        assert np.array_equal(clip, before)


def _dark_then_bright():
    """Floats in 0..255, of which those of the first half of the frames are at most 1."""
    clip = np.full((16, 40, 56, 3), 200.0, np.float32)
    clip[:8] = np.random.default_rng(0).random((8, 40, 56, 3), np.float32)
    return clip


@pytest.mark.parametrize("kind", ["array", "tensor", "list", "pictures", "folder"])
def test_range_of_floats_is_that_of_the_whole_video(processor, kind, tmp_path):
    """A dark frame is dark, also where only dark ones are sampled or at hand together."""
    clip = _dark_then_bright()
    video = {"array": clip, "tensor": torch.from_numpy(clip), "list": list(clip)}.get(kind)
    if video is None:
        video = [Image.fromarray(frame[..., 0]) for frame in clip]
        for number, picture in enumerate(video):
            picture.save(tmp_path / f"{number}.tiff")
        video = str(tmp_path) if kind == "folder" else video
    windows = [processor.read_clip(video, 1, torch.Generator().manual_seed(seed))[0] for seed in range(12)]
    assert {int(window.max()) for window in windows} == {1, 200}
    recording = TGDFERVideoProcessor(num_frames=4, do_resize=False).read_recording(video, interval=0.04)
    frames = torch.cat([torch.stack(list(chunk.frames)) for chunk in recording.chunks])
    assert len(frames) == 16 and frames[:8].max() == 1 and frames[8:].min() == 200


def test_grey_and_transparent_arrays_become_rgb(processor):
    clip = array()
    grey = processor(clip[..., :1])["pixel_values_videos"]
    assert torch.allclose(grey, processor(np.repeat(clip[..., :1], 3, -1))["pixel_values_videos"])
    opaque = np.concatenate([clip, np.full_like(clip[..., :1], 255)], -1)
    assert torch.allclose(processor(opaque)["pixel_values_videos"], processor(clip)["pixel_values_videos"])
    assert processor.read_clip(opaque)[0].shape[1] == 3


def test_sizes_that_cannot_be_stacked(processor):
    with pytest.raises(ValueError, match="differ in size"):
        processor([array(), array(height=64)], do_resize=False, do_center_crop=False)
