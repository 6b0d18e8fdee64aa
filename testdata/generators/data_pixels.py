"""Pixels of a few radiographs as Pillow decodes and resizes them, for crates/medfed-data.

Run from the repository root: python testdata/generators/data_pixels.py ../shared/data/cxr-nih
Writes testdata/data_pixels.json: file, channels, size, pixels as [channel, height, width].
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

root = Path(sys.argv[1])
files = sorted(path.relative_to(root).as_posix() for path in (root / "images").glob("*.jpg"))
vectors = []
for file, channels, size in (
    (files[0], 1, 24), (files[333], 1, 17), (files[666], 3, 12), (files[999], 1, 24),
):
    image = Image.open(root / file)
    image = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    planes = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    vectors.append(
        {"file": file, "channels": channels, "size": size, "pixels": planes.ravel().tolist()}
    )
out = Path("testdata/data_pixels.json")
out.write_text("[\n" + ",\n".join(json.dumps(v, separators=(",", ":")) for v in vectors) + "\n]\n")
