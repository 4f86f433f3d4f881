"""The network alone: `python -m benchmarks.servers.bare BUNDLE IMAGES SECONDS RUNTIME BATCH`."""

import json
import sys
import time
from pathlib import Path

import numpy as np

from defect_assets.inference.detector import Detector
from defect_assets.inference.images import decode_image


def main() -> None:
    """Run it on decoded and fitted images for some seconds, and print what one takes."""
    bundle, images, seconds, runtime, batch = sys.argv[1:]
    detector = Detector.load(Path(bundle), runtime=runtime)
    fit = detector.spec.preprocessing.fit
    fitted = [fit(decode_image(path.read_bytes())) for path in sorted(Path(images).iterdir())]
    stacked = np.stack([fitted[n % len(fitted)] for n in range(int(batch))])
    for _ in range(5):
        detector.probabilities(stacked)
    count, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < float(seconds):
        detector.probabilities(stacked)
        count += len(stacked)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    figures = {
        "runtime": detector.runtime,
        "cpu_ms": 1000 * cpu / count,
        "per_second": count / wall,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
