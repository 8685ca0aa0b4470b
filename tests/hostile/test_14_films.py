"""Point 14: unusual films come out with the times, geometry and colours that they had, measured by decoding both.

The network is left out where it does not matter: the frames of the reader go to the writer as they are.
"""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from inference.predictor import Predictor
from inference.video.convert import make_video
from inference.video.errors import VideoError
from inference.video.reader import Clip
from inference.video.writer import Target, VideoWriter
from tests.films import read_film, scene, sound_of, write_film

FRAME = 0.1  # seconds


def copied(source, stem, alpha=False):
    """The frames of a film through reader and writer; the written file, and the reader's opinion of the source."""
    clip = Clip(str(source))
    writer = VideoWriter(Target.of(stem, "cutout" if alpha else "overlay"), clip.look, clip.rate, str(source))
    for frame in clip.frames():
        opaque = np.full(clip.size, 255, np.uint8)
        layers = [frame.pixels, opaque if frame.alpha is None else frame.alpha] if alpha else [frame.pixels]
        writer.write(np.dstack(layers), frame.seconds)
    writer.close(clip.end)
    assert writer.problems == []
    return writer.target.path, clip


def same_colours(one, other):
    """Frames of one size differ by less than 2 grey levels on average, the means of their channels by less than 1.5."""
    assert one.shape == other.shape
    difference = one.astype(int) - other
    assert np.abs(difference).mean() < 2 and np.abs(difference.mean(axis=(0, 1))).max() < 1.5


def same_film(source, written):
    """Frames at the same times, with the same colours; returns the properties of both."""
    (ours, properties), (theirs, others) = read_film(written), read_film(source)
    begin = min(theirs[0][0], 0.0)
    assert [time for time, _ in ours] == pytest.approx([time - begin for time, _ in theirs], abs=0.002)
    height, width = theirs[0][1].shape[:2]
    for (_, one), (_, other) in zip(ours, theirs, strict=True):
        same_colours(one[:height, :width, :3], other[..., :3])
    return properties, others


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize(("delay", "sound"), [(0.0, (0.0, 3.0)), (1.0, (0.0, 3.0)), (0.0, (1.0, 2.0))])
def test_sound_and_image_stay_in_sync_when_either_starts_late(tmp_path, suffix, delay, sound):
    source = write_film(tmp_path / f"film.{suffix}", delay=delay, sound=sound)
    written, clip = copied(source, tmp_path / "out")
    same_film(source, written)
    begins, others = sound_of(written)[0], sound_of(source)[0]
    assert begins == pytest.approx(others[: len(begins)], abs=0.02) and len(begins) >= 1
    assert clip.damage is None


def test_streams_of_broadcasts_that_do_not_begin_at_zero_stay_in_sync(tmp_path):
    source = write_film(tmp_path / "film.ts", delay=5.0, sound=(4.0, 3.0))
    written, clip = copied(source, tmp_path / "out")
    shift = read_film(source)[0][0][0] - read_film(written)[0][0][0]
    begins, others = sound_of(written)[0], sound_of(source)[0]
    assert begins == pytest.approx([time - shift for time in others[: len(begins)]], abs=0.02) and begins
    assert clip.damage is None


@pytest.mark.parametrize(
    "look",
    [
        {},
        {"aspect": Fraction(4, 3)},
        {"matrix": 1, "primaries": 1, "transfer": 1},
        {"matrix": 1, "primaries": 1, "transfer": 1, "full": True},
        {"matrix": 6, "primaries": 6, "transfer": 6},
        {"matrix": 9, "primaries": 9, "transfer": 18, "pixels": "yuv420p10le"},
    ],
)
@pytest.mark.parametrize("alpha", [False, True])
def test_geometry_and_colours_are_kept_and_named(tmp_path, look, alpha):
    source = write_film(tmp_path / "film.mp4", frames=4, **look)
    written, _ = copied(source, tmp_path / "out", alpha)
    ours, theirs = same_film(source, written)
    for key in ("size", "aspect", "primaries", "transfer"):
        assert ours[key] == theirs[key]
    assert ours["matrix"] == theirs["matrix"] or (alpha and theirs["matrix"] == 2)
    if not alpha and theirs["range"]:
        assert ours["range"] == theirs["range"]


def turned(path, matrix):
    """Writes a display matrix into an .mp4, as a phone that is held upright does."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    content[place : place + 36] = struct.pack(">9i", *(value << 16 for value in matrix[:8]), 1 << 30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, 0, -1, 0, 0, 60, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, 0, -1, 0, 80, 60), lambda image: np.rot90(image, 2)),
        ((0, -1, 0, 1, 0, 0, 0, 80), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, 0, 1, 0, 80, 0), lambda image: image[:, ::-1]),
    ],
)
def test_turned_and_mirrored_films_come_out_upright(tmp_path, matrix, turn):
    source = turned(write_film(tmp_path / "film.mp4", frames=3, aspect=Fraction(4, 3)), matrix)
    written, _ = copied(source, tmp_path / "out")
    frames, properties = read_film(written)
    expected = [turn(stored) for _, stored in read_film(source)[0]]
    assert len(expected) == 3 and properties["size"] == expected[0].shape[:2]
    assert properties["aspect"] == (Fraction(3, 4) if expected[0].shape[0] == 80 else Fraction(4, 3))
    for (_, frame), image in zip(frames, expected, strict=True):
        same_colours(frame, image)


def test_the_uneven_frames_of_a_browser_recording_keep_their_times_and_rate(tmp_path):
    times = [(i * 33 + (i * 37) % 11) / 1000 for i in range(30)]
    options = {"deadline": "realtime", "b": "4M"}
    form = {"codec": "libvpx", "options": options, "rate": 30, "size": (120, 160)}
    source = write_film(tmp_path / "film.webm", 30, times=times, **form)
    written, clip = copied(source, tmp_path / "out")
    ours, _ = same_film(source, written)
    assert ours["rate"] == pytest.approx(29 / times[-1], rel=0.05)
    assert clip.damage is None


def test_a_slow_variable_rate_is_kept_within_one_percent(tmp_path):
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.4, 40)).tolist()
    source = write_film(tmp_path / "film.mp4", 40, times=[time - times[0] for time in times])
    written, _ = copied(source, tmp_path / "out")
    ours, theirs = same_film(source, written)
    assert ours["rate"] == pytest.approx(theirs["rate"], rel=0.01)


def see_through(path, form, alpha):
    form = dict(form)
    return write_film(path.with_suffix(form.pop("suffix")), frames=3, alpha=alpha, **form)


FORMS_WITH_ALPHA = pytest.mark.parametrize(
    "form",
    [
        {"codec": "libvpx-vp9", "pixels": "yuva420p", "metadata": {"alpha_mode": "1"}, "suffix": ".webm",
         "options": {"deadline": "realtime", "crf": "4", "b": "0"}},
        {"codec": "prores_ks", "pixels": "yuva444p10le", "suffix": ".mov"},
    ],
)  # fmt: skip


@FORMS_WITH_ALPHA
def test_colours_and_alpha_of_films_with_alpha_are_kept(tmp_path, form):
    alpha = np.tile(np.linspace(0, 255, 80).astype(np.uint8), (60, 1))
    source = see_through(tmp_path / "film", form, alpha)
    written, _ = copied(source, tmp_path / "out", alpha=True)
    decoder = "libvpx-vp9" if source.suffix == ".webm" else None  # FFmpeg's own decoder drops alpha
    (ours, properties), (theirs, others) = read_film(written), read_film(source, decoder)
    assert properties["size"] == others["size"] and len(theirs) == 3
    for (_, one), (_, other) in zip(ours, theirs, strict=True):
        same_colours(one, other)
        same_colours(other[..., 3:], alpha[..., None])


@FORMS_WITH_ALPHA
def test_alpha_of_the_source_is_respected(tmp_path, tiny_weights, form):
    alpha = np.zeros((60, 80), np.uint8)
    alpha[:, 40:] = 255
    source = see_through(tmp_path / "film", form, alpha)
    predictor = Predictor.from_pretrained(tiny_weights, "cpu", "fp32", engine="torch")
    result = make_video(predictor, Clip(str(source)), tmp_path / "out", ["overlay", "cutout"])
    assert result.problems == ()
    _, cutout = read_film(result.files[1])[0][1]
    assert cutout[:, :36, 3].max() <= 2 and cutout[:, 44:, 3].max() > 2


def test_an_edit_list_hides_frames_and_is_no_damage(tmp_path):
    """As a film that was trimmed without encoding: it is stored from the key frame on, and shown from later on."""
    whole = write_film(tmp_path / "whole.mp4", 40, options={"preset": "ultrafast", "crf": "4", "g": "80"}, sound=(0, 4))
    source = tmp_path / "film.mp4"
    with av.open(str(whole)) as film, av.open(str(source), "w", options={"avoid_negative_ts": "disabled"}) as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in film.streams}
        for packet in film.demux():
            if packet.dts is None:
                continue
            shift = round(Fraction(25, 10) / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            index = packet.stream.index
            packet.stream = streams[index]
            out.mux(packet)
    written, clip = copied(source, tmp_path / "out")
    assert clip.damage is None and clip.found == 15
    frames, _ = read_film(written)
    shown = read_film(whole)[0][25:]
    for (_, frame), (_, image) in zip(frames, shown, strict=True):
        same_colours(frame, image)
    begins = sound_of(written)[0]
    assert begins[0] == pytest.approx(1.0, abs=0.03) or begins[0] == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("size", [(59, 79), (60, 79), (59, 80), (1, 1)])
def test_odd_sizes_are_padded_and_nothing_is_cropped(tmp_path, size):
    source = write_film(tmp_path / "film.mkv", frames=2, size=size, codec="ffv1", pixels="bgr0")
    written, _ = copied(source, tmp_path / "out")
    frames, properties = read_film(written)
    assert properties["size"] == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    same_colours(frames[0][1][: size[0], : size[1]], read_film(source)[0][0][1])
    written, _ = copied(source, tmp_path / "out", alpha=True)
    assert read_film(written)[1]["size"] == size
    same_film(source, written)


@pytest.mark.parametrize(
    "name", ["10:30.mp4", "100%d.mp4", "[a] 'b' é.mp4", "-dash.mp4", "concat:a|b.mp4", "a#b?c.mp4"]
)
def test_names_that_mean_something_to_ffmpeg(tmp_path, name, monkeypatch):
    source = write_film(tmp_path / name, frames=3)
    monkeypatch.chdir(tmp_path)
    clip = Clip(name)
    writer = VideoWriter(Target.of(tmp_path / f"out {name}", "overlay"), clip.look, clip.rate, name)
    for frame in clip.frames():
        writer.write(frame.pixels, frame.seconds)
    writer.close()
    same_film(source, writer.target.path)


def test_a_cover_image_is_not_the_film(tmp_path):
    film, cover = write_film(tmp_path / "film.mp4", frames=3), tmp_path / "cover.mp4"
    with av.open(str(film)) as source, av.open(str(cover), "w") as out:
        cover_stream = out.add_stream("mjpeg")
        cover_stream.width, cover_stream.height, cover_stream.pix_fmt = 16, 16, "yuvj420p"
        cover_stream.disposition = av.stream.Disposition.attached_pic
        stream = out.add_stream_from_template(source.streams.video[0])
        out.mux(cover_stream.encode(av.VideoFrame(16, 16, "yuvj420p")))
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    assert Clip(str(cover)).size == (60, 80)


def test_sound_alone_is_no_video(tmp_path):
    from tests.films import write_sound

    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as out:
        write_sound(out, out.add_stream("aac", rate=16_000, layout="mono"), 0.0, 0.5)
    with pytest.raises(VideoError, match=r"song\.m4a: holds no video stream"):
        Clip(str(tmp_path / "song.m4a"))


def test_a_playlist_does_not_read_from_the_network(tmp_path):
    (tmp_path / "film.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError):
        Clip(str(tmp_path / "film.mp4"))


def test_surround_sound_and_rgb(tmp_path):
    source = tmp_path / "film.mkv"
    with av.open(str(source), "w") as out:
        video = out.add_stream("ffv1", rate=10)
        video.width, video.height, video.pix_fmt = 80, 60, "bgr0"
        track = out.add_stream("pcm_s16le", rate=16_000, layout="5.1")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 6 * 8000), np.int16), "s16", "5.1")
        sound.sample_rate, sound.pts = 16_000, 0
        out.mux(track.encode(sound))
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(scene(i, 5), "rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    written, _ = copied(source, tmp_path / "out")
    ours, _ = same_film(source, written)
    assert ours["sound"] == 1
