"""Videos: every picture in its place, whole under their name or not there at all, and nothing left running."""

import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from maze_core.envs.video import VideoFile, remove_video, thumbnail
from maze_core.errors import EnvError
from tests.maze_core.envs.videos import picture_of, read_video, times_in

pytest.importorskip("imageio_ffmpeg", reason="the video extra is not installed")


def test_a_video_shows_every_picture_in_order_at_its_speed(tmp_path):
    video = VideoFile(tmp_path / "video.mp4", 12.5)
    for step in range(13):
        video.add(picture_of(step))
    video.close()
    about, pictures = read_video(tmp_path / "video.mp4")
    assert times_in(tmp_path / "video.mp4") == list(range(13))
    assert pictures.shape == (13, 16, 24, 3)
    assert (about["codec"], about["fps"]) == ("h264", 12.5)
    assert about["pix_fmt"].startswith("yuv420p")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 8), (34, 51), (33, 61), (400, 600)])
def test_an_odd_size_is_padded_to_an_even_one_and_no_size_is_scaled(tmp_path, height, width):
    frame = np.zeros((height, width, 3), dtype=np.uint8)
    frame[:, width // 2 :] = 255
    video = VideoFile(tmp_path / "video.mp4", 30)
    video.add(frame)
    video.close()
    _, (picture,) = read_video(tmp_path / "video.mp4")
    assert picture.shape == (height + height % 2, width + width % 2, 3)
    if width >= 8:
        shown = picture[: height - 1, : width - 1, 1]
        np.testing.assert_array_equal(shown > 127, frame[: height - 1, : width - 1, 1] > 127)


def test_a_picture_need_not_lie_in_one_piece(tmp_path):
    video = VideoFile(tmp_path / "video.mp4", 30)
    frame = np.zeros((32, 16, 3), dtype=np.uint8)
    frame[:16] = 200
    video.add(frame.transpose(1, 0, 2))
    video.close()
    _, (picture,) = read_video(tmp_path / "video.mp4")
    assert picture.shape == (16, 32, 3)
    assert picture[:, 2:14].min() > 180
    assert picture[:, 18:30].max() < 20


def test_colours_are_red_green_and_blue_in_this_order(tmp_path):
    video = VideoFile(tmp_path / "video.mp4", 30)
    video.add(np.full((16, 16, 3), (220, 120, 20), dtype=np.uint8))
    video.close()
    _, (picture,) = read_video(tmp_path / "video.mp4")
    np.testing.assert_allclose(picture.mean(axis=(0, 1)), (220, 120, 20), atol=6)


def test_a_video_has_its_name_only_when_it_is_whole(tmp_path):
    video = VideoFile(tmp_path / "videos" / "video.mp4", 30)
    assert list(tmp_path.iterdir()) == [], "nothing is written before the first picture"
    video.add(picture_of(1))
    assert not video.path.exists()
    video.close()
    video.close()
    assert list(video.path.parent.iterdir()) == [video.path]


def test_a_video_takes_the_place_of_an_older_one_when_it_is_whole(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"older")
    video = VideoFile(path, 30)
    video.add(picture_of(1))
    assert path.read_bytes() == b"older"
    video.close()
    assert times_in(path) == [1]


def test_a_discarded_video_leaves_nothing(tmp_path):
    video = VideoFile(tmp_path / "video.mp4", 30)
    video.add(picture_of(1))
    video.discard()
    video.discard()
    video.close()
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_pictures_is_none(tmp_path):
    VideoFile(tmp_path / "video.mp4", 30).close()
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_is_over_takes_no_more_pictures(tmp_path):
    video = VideoFile(tmp_path / "video.mp4", 30)
    video.add(picture_of(1))
    video.close()
    with pytest.raises(EnvError, match=r"video\.mp4 is over"):
        video.add(picture_of(2))
    assert times_in(video.path) == [1]


@pytest.mark.parametrize(
    ("frame", "given"),
    [
        (np.zeros((4, 4, 3)), r"not a float64 array of shape \(4, 4, 3\)"),
        (np.zeros((4, 4), dtype=np.uint8), r"not a uint8 array of shape \(4, 4\)"),
        (np.zeros((4, 4, 4), dtype=np.uint8), r"not a uint8 array of shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), dtype=np.uint8), r"not a uint8 array of shape \(0, 4, 3\)"),
        (None, "not a NoneType"),
        ([[[0, 0, 0]]], "not a list"),
        (picture_of(1, 18, 24), "has 24x18 pixels, those before it had 24x16"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_form_and_the_video_discarded(tmp_path, frame, given):
    video = VideoFile(tmp_path / "video.mp4", 30)
    video.add(picture_of(1))
    with pytest.raises(EnvError, match=given):
        video.add(frame)
    video.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["a picture", "the end"])
def test_an_encoder_that_dies_leaves_nothing_and_is_named(tmp_path, ending):
    video = VideoFile(tmp_path / "video.mp4", 30)
    video.add(picture_of(1, 400, 600))
    (encoder,) = psutil.Process().children()
    encoder.kill()
    while encoder.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    with pytest.raises(
        EnvError, match=r"video\.mp4 could not be filmed: the encoder ended with exit code -9"
    ):
        video.close() if ending == "the end" else video.add(picture_of(2, 400, 600))
    assert list(tmp_path.iterdir()) == []
    assert psutil.Process().children() == []


def test_what_the_encoder_said_is_in_the_error(tmp_path):
    video = VideoFile(tmp_path / "video.mp4", -1)
    video.add(picture_of(1))
    with pytest.raises(EnvError, match=r"could not be filmed: .*framerate.*-1"):
        video.close()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvError, match="could not be filmed"):
        VideoFile(tmp_path / "file" / "video.mp4", 30).add(picture_of(1))
    (tmp_path / "folder" / "within").mkdir(parents=True)
    video = VideoFile(tmp_path / "folder", 30)
    video.add(picture_of(1))
    with pytest.raises(EnvError, match="could not be filmed"):
        video.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_videos_leave_no_process_no_open_file_and_no_word_on_the_terminal(tmp_path, capfd):
    process = psutil.Process()
    before = process.num_fds()
    for number in range(4):
        videos = [VideoFile(tmp_path / f"{number}-{i}.mp4", 30) for i in range(2)]
        for video in videos:
            video.add(picture_of(number, 15, 23))
        videos[0].close()
        videos[1].discard()
    assert process.children(recursive=True) == []
    assert process.num_fds() == before
    assert capfd.readouterr() == ("", "")


def test_an_encoder_that_is_not_installed_is_an_error_with_the_line_to_type(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(EnvError, match=r"not installed: pip install 'maze-service\[video\]'"):
        VideoFile(tmp_path / "video.mp4", 30).add(picture_of(1))
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_does_not_start_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no_ffmpeg"))
    with pytest.raises(EnvError, match="no_ffmpeg"):
        VideoFile(tmp_path / "video.mp4", 30).add(picture_of(1))
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_dies_leaves_no_video_and_what_it_left_can_be_removed(tmp_path):
    path = tmp_path / "video.mp4"
    code = (
        "import os, pathlib, numpy, maze_core.envs.video as v; "
        f"video = v.VideoFile(pathlib.Path({str(path)!r}), 30); "
        "video.add(numpy.zeros((16, 16, 3), dtype='uint8')); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
    assert not path.exists()
    for left in (path, tmp_path / ".video.mp4.partial"):
        left.touch()
    remove_video(path)
    remove_video(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "expected"), [((16, 24), (24, 16)), ((400, 640), (320, 200))])
def test_a_thumbnail_is_a_png_of_one_picture_no_wider_than_320_pixels(tmp_path, size, expected):
    video = VideoFile(tmp_path / "video.mp4", 30)
    for step in range(3):
        video.add(picture_of(step, *size))
    video.close()
    data = thumbnail(tmp_path / "video.mp4")
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == expected


def test_what_is_no_video_has_no_thumbnail(tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"no video")
    with pytest.raises(EnvError, match="No picture could be taken"):
        thumbnail(tmp_path / "video.mp4")
