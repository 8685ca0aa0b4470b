"""Small films for tests, written with PyAV, and what is measured of films."""

from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation

EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
TICK = Fraction(1, 90_000)


def scene(i, frames=20, height=60, width=80):
    """A soft disc on its way from left to right, over coloured slopes."""
    x, y = np.meshgrid(np.linspace(30, 200, width), np.linspace(220, 40, height))
    image = np.stack([x, y, np.full_like(x, 90)], axis=2).astype(np.uint8)
    cv2.circle(image, (i * width // frames, height // 2), height // 4, (220, 60, 40), -1)
    return cv2.GaussianBlur(image, (0, 0), 2)


def write_film(
    path, frames=20, rate=10, times=None, codec="libx264", pixels="yuv420p", options=None, delay=0.0, sound=None,
    aspect=1, matrix=2, full=False, primaries=2, transfer=2, size=(60, 80), alpha=None, metadata=None,
):  # fmt: skip
    """Writes a film of `scene`.

    Args:
        times: seconds of each frame; by default i / rate, `delay` later.
        sound: (start, seconds) of a track that beeps in every second half of a second.
        alpha: (H, W), for codecs that have it.
    """
    options = {"preset": "ultrafast", "crf": "4"} if options is None and codec == "libx264" else options or {}
    with av.open(f"file:{path.absolute()}", "w") as out:
        video = out.add_stream(codec, rate=rate, options=options)
        video.width, video.height, video.pix_fmt = size[1], size[0], pixels
        video.codec_context.time_base = TICK if codec == "libx264" else Fraction(1, 1000)
        video.metadata.update(metadata or {})
        context = video.codec_context
        context.sample_aspect_ratio = Fraction(aspect)
        context.colorspace, context.color_primaries, context.color_trc = matrix, primaries, transfer
        context.color_range = 2 if full else 1
        track = None if sound is None else out.add_stream("aac", rate=16_000, layout="mono")
        if track is not None:
            write_sound(out, track, *sound)
        for i in range(frames):
            image = scene(i, frames, *size)
            if alpha is not None:
                image = np.dstack([image, alpha])
            frame = av.VideoFrame.from_ndarray(image, "rgb24" if alpha is None else "rgba")
            names = {1: "ITU709", 9: "BT2020"}
            frame = frame.reformat(
                format=pixels, dst_colorspace=names.get(matrix, "ITU601"), src_color_range=2,
                dst_color_range=2 if full else 1, interpolation=EXACT,
            )  # fmt: skip
            seconds = delay + (i / rate if times is None else times[i])
            frame.time_base, frame.pts = context.time_base, round(seconds / context.time_base)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def write_sound(out, track, start, seconds):
    """A tone that is silent in the first half of every second."""
    time = start + np.arange(int(seconds * 16_000)) / 16_000
    wave = (8000 * np.sin(2 * np.pi * 440 * time) * (time % 1 >= 0.5)).astype(np.int16)
    for at in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, at : at + 1024], "s16", "mono")
        frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), round(start * 16_000) + at
        out.mux(track.encode(frame))
    out.mux(track.encode(None))


def read_film(path, decoder=None):
    """Frames of a film as (seconds, RGB or RGBA), with the stream's properties; `decoder` replaces FFmpeg's own."""
    with av.open(f"file:{path.absolute()}") as film:
        video = film.streams.video[0]
        look = video.codec_context
        properties = {
            "size": (look.height, look.width), "aspect": video.sample_aspect_ratio or 1, "matrix": look.colorspace,
            "range": look.color_range, "primaries": look.color_primaries, "transfer": look.color_trc,
            "rate": float(video.average_rate), "sound": len(film.streams.audio), "codec": look.name,
        }  # fmt: skip
        frames = []
        codec = video if decoder is None else av.CodecContext.create(decoder, "r")
        for frame in (frame for packet in film.demux(video) for frame in codec.decode(packet)):
            form = "rgba" if any(component.is_alpha for component in frame.format.components) else "rgb24"
            seconds = None if frame.pts is None else float(frame.pts * video.time_base)
            frames.append((seconds, frame.reformat(format=form, interpolation=EXACT).to_ndarray()))
    return frames, properties


def sound_of(path):
    """Seconds at which the tone of `write_sound` begins, and the end of the track."""
    with av.open(f"file:{path.absolute()}") as film:
        parts = [(frame.time, frame.sample_rate, frame.to_ndarray()[0]) for frame in film.decode(film.streams.audio[0])]
    times = np.concatenate([start + np.arange(len(wave)) / rate for start, rate, wave in parts])
    loud = np.concatenate([np.abs(wave.astype(float)) for *_, wave in parts])
    heard = times[loud > 0.3 * loud.max()]
    return heard[np.diff(heard, prepend=-np.inf) >= 0.2].tolist(), times[-1]
