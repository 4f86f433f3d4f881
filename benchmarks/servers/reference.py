"""A FastAPI app in the reference's manner: decode, resize, forward, nested lists as JSON.

One file, the network in eager mode, no batching; `BUNDLE` names the folder of the model.
"""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import FastAPI, File, UploadFile
from PIL import Image
from safetensors.torch import load_file

from defect_assets.inference.bundle import WEIGHTS, read_spec
from defect_assets.inference.model import build_model

folder = Path(os.environ["BUNDLE"])
spec = read_spec(folder)
size = spec.preprocessing
network = build_model(spec.architecture, size.channels, 1 + len(spec.class_map))
network.load_state_dict(load_file(folder / WEIGHTS))
network.eval()
app = FastAPI()


@app.get("/ready")
def ready() -> dict[str, str]:
    """Say that the model is loaded."""
    return {"status": "ok"}


@app.post("/analyze")
def analyze(image: UploadFile = File(...)) -> dict[str, Any]:
    """Segment one image."""
    picture = Image.open(io.BytesIO(image.file.read()))
    picture = picture.convert("L" if size.channels == 1 else "RGB")
    width, height = picture.size
    pixels = np.asarray(picture.resize((size.width, size.height)))
    inputs = size.normalize(pixels.reshape(1, size.height, size.width, -1))
    views: list[tuple[int, ...]] = [(), (3,), (2,), (2, 3)] if spec.flips else [()]
    with torch.no_grad():
        batch = torch.from_numpy(inputs)
        maps = [network(batch.flip(axes)).softmax(1).flip(axes) for axes in views]
        probabilities = torch.stack(maps).mean(0)
    classes = probabilities[0].argmax(0).numpy().astype(np.uint8)
    mask = Image.fromarray(classes).resize((width, height), Image.Resampling.NEAREST)
    return {
        "mask": np.asarray(mask).tolist(),
        "confidence": float(probabilities[0, 1:].max()),
        "classes": [spec.class_map[int(c)] for c in np.unique(classes) if c],
    }
