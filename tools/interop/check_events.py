"""Checks that TensorBoard reads the event files that voco writes.

    python tools/interop/check_events.py build/tests/write_events

write_events writes two files of one run, the second of which goes on from an earlier step. Needs tensorboard.
"""
import os
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginAccumulator


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height):
    """A grey ramp."""
    rows = b"".join(b"\0" + bytes((x * 255 // width) for x in range(width)) for _ in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main():
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "image.png")
        run = os.path.join(folder, "run")
        os.mkdir(run)
        with open(image, "wb") as file:
            file.write(png(17, 9))
        subprocess.run([sys.argv[1], run, image], check=True)
        loss = [(step, (1.0 if step < 6 else 2.0) * step) for step in range(12)]
        intra = [(step, float(numpy.float32(1) / numpy.float32(step + 1))) for step in range(12)]

        events = EventAccumulator(run)
        events.Reload()
        assert events.Tags()["scalars"] == ["loss", "loss/intra"], events.Tags()
        assert [(e.step, e.value) for e in events.Scalars("loss")] == loss, events.Scalars("loss")
        assert [(e.step, e.value) for e in events.Scalars("loss/intra")] == intra
        found = events.Images("crops")[-1]
        assert (found.step, found.width, found.height, found.encoded_image_string) == (11, 17, 9, png(17, 9))

        shown = PluginAccumulator(run)  # what the web page is served from
        shown.Reload()
        values = [(e.step, float(e.tensor_proto.float_val[0])) for e in shown.Tensors("loss")]
        assert values == loss, values
        print(f"{len(loss)} steps of 2 scalars, an image, a run that goes on: as written")


if __name__ == "__main__":
    main()
