"""Our side: `defect_assets.training.loop.train` as it is, watched from outside."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import torch

from benchmarks.trainers.shared import TILES, Job, Meter, cpu_seconds
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.images import LabelledImage
from defect_assets.dataset.masks import decode_mask
from defect_assets.inference.images import decode_image
from defect_assets.settings import read_settings
from defect_assets.training import loop
from defect_assets.training.batches import Batches
from defect_assets.training.config import TrainingConfig
from defect_assets.training.data import fit_images
from defect_assets.training.hardware import Hardware


def read_files(
    files: list[tuple[str, str, int]], description: DatasetDescription
) -> Iterator[LabelledImage]:
    """Yield images with their masks, from files."""
    names = {0: description.defect_free} | description.class_map
    for image, mask, class_id in files:
        pixels = decode_image(Path(image).read_bytes())
        size = (pixels.shape[0], pixels.shape[1])
        ids = decode_mask(Path(mask).read_bytes(), names[class_id], size, description)
        yield LabelledImage(Path(image).stem, names[class_id], Path(image).stem, "", pixels, ids)


def main() -> None:
    """Decode, train, and print what it took."""
    job = Job.begin()
    config = TrainingConfig(**job.config).model_copy(
        update={
            "steps": job.total,
            "epochs": None,
            "precision": "bf16-mixed" if job.bf16 else "32-true",
        }
    )
    description = read_settings(TILES, DatasetDescription)
    start, cpu_start = time.perf_counter(), cpu_seconds()
    images = fit_images(read_files(job.images, description), config.input, description.class_ids)
    decoded, cpu_decoded = time.perf_counter() - start, cpu_seconds() - cpu_start

    meter = Meter(job)
    prepared: list[float] = []
    stream, prepare = loop._stream, Batches.__getitem__

    def timed(batches: Batches, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        begin = time.thread_time()
        batch = prepare(batches, step)
        prepared.append(time.thread_time() - begin)
        return batch

    loop._stream = lambda *arguments: meter.watch(stream(*arguments))
    Batches.__getitem__ = timed
    hardware = Hardware(accelerator=job.device)  # type: ignore[arg-type]
    with gpu_utilization(job.device) as utilization:
        loop.train(config, images, images.only([]), description.class_map, hardware)
    on_clock = prepared[job.warmup + 1 :]  # empty where processes prepare, not a thread
    meter.finish(
        decode_seconds=decoded,
        decode_cpu_seconds=cpu_decoded,
        prepare_cpu_seconds=sum(on_clock),
        utilization=sum(utilization) / max(len(utilization), 1),
    )


@contextmanager
def gpu_utilization(device: str) -> Iterator[list[float]]:
    """Ask NVML ten times a second how busy the first GPU is; yield its answers, in percent."""
    answers: list[float] = []
    done = Event()

    def ask() -> None:
        with suppress(Exception):  # NVML has a class for each of its errors
            import pynvml

            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            while not done.wait(0.1):
                answers.append(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)

    thread = Thread(target=ask, daemon=True)
    if device == "cuda":
        thread.start()
    try:
        yield answers
    finally:
        done.set()


if __name__ == "__main__":
    main()
