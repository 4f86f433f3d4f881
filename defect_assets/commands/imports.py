"""Bringing images into the inbox, from wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from defect_assets.commands.errors import errors
from defect_assets.console import console

if TYPE_CHECKING:
    from defect_assets.dataset.delivery import DeliveredSample
    from defect_assets.dataset.description import DatasetDescription
    from defect_assets.dataset.formats.imported import Imported
    from defect_assets.home import Home

imports = typer.Typer(
    help="Bring images into the inbox, as deliveries that `repro` takes in.", no_args_is_help=True
)

DEMO_SEED = 0

Images = Annotated[
    Path, typer.Option(help="Folder of the images that it names.", exists=True, file_okay=False)
]
Annotations = Annotated[
    Path, typer.Argument(help="The exported file.", exists=True, dir_okay=False)
]
Dataset = Annotated[str, typer.Option(help="What the images show.")]
Name = Annotated[
    str | None, typer.Option(help="Name of the delivery.", show_default="the source's")
]


@imports.command()
def synthetic(
    name: Annotated[str, typer.Option(help="Name of the delivery.")] = "synthetic",
    tiles: Annotated[int, typer.Option(min=1, help="Physical tiles, three images each.")] = 100,
    first: Annotated[
        int, typer.Option(min=1, help="Number of the first tile; other numbers, other tiles.")
    ] = 1,
) -> None:
    """Deliver tiles of the synthetic line, with exact masks."""
    from defect_assets.home import default_home

    with errors():
        deliver_synthetic(default_home(), name, first, tiles)


@imports.command("magnetic-tiles")
def magnetic_tiles(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Folder with MT_Blowhole, MT_Break …",
            show_default="download the public archive",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            help="CSV file with the columns stem and group: which images show one physical part.",
            show_default="tell parts apart by the gaps in the capture sequence",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    batches: Annotated[
        int, typer.Option(min=1, help="Into how many deliveries, in the order of capture.")
    ] = 2,
    archive: Annotated[
        str | None, typer.Option(help="Another address of the archive.", show_default=False)
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(help="SHA-256 of the archive; another one is refused.", show_default=False),
    ] = None,
) -> None:
    """Deliver the public magnetic tile defect dataset.

    Y. Huang, C. Qiu, K. Yuan: Surface defect saliency of magnetic tile. The Visual Computer
    (2020). Its authors ask users to cite it.
    """
    from defect_assets.dataset.formats import magnetic_tiles as importer
    from defect_assets.home import default_home, known_description

    with errors():
        home = default_home()
        home.hold(known_description("magnetic-tiles"))
        if source is None:
            console.print("downloading the public archive, 50 MB")
            source = importer.download(
                home.root / "downloads",
                archive or importer.ARCHIVE_URL,
                f"sha256:{sha256}" if sha256 else None,
            )
        tiles = importer.read_tiles(source, groups)
        for number, batch in enumerate(importer.in_batches(tiles, batches), start=1):
            _deliver(
                home,
                f"magnetic-tiles-{number}",
                importer.delivered(batch),
                len(batch),
                f"Public magnetic tile dataset, captures {batch[0].capture} to {batch[-1].capture}",
            )


@imports.command()
def folder(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder with images/, masks/ and, if you have it, samples.csv "
            "(sample, class, group, exposure).",
            exists=True,
            file_okay=False,
        ),
    ],
    class_map: Annotated[
        Path,
        typer.Option(help="YAML file of mask values and class names.", exists=True, dir_okay=False),
    ],
    dataset: Annotated[str, typer.Option(help="What the images show.")] = "parts",
    name: Annotated[
        str | None, typer.Option(help="Name of the delivery.", show_default="the folder's")
    ] = None,
) -> None:
    """Deliver any pair of folders, images and masks, paired by their stems.

    With one class in the map, a mask is all above 127. With several, a mask's values are classes.
    """
    from defect_assets.dataset.formats import folder as importer
    from defect_assets.home import default_home

    with errors():
        home = default_home()
        description = importer.describe(dataset, class_map)
        samples = importer.delivered(source, description)
        home.hold(description)
        delivery = name or source.resolve().name
        _deliver(home, delivery, samples, len(samples), f"Folder {source.name}")


@imports.command()
def coco(
    annotations: Annotations, images: Images, dataset: Dataset = "parts", name: Name = None
) -> None:
    """Deliver COCO instances: polygons and run lengths."""
    from defect_assets.dataset.formats.coco import read_coco

    _deliver_annotated(
        annotations, name, lambda known: read_coco(annotations, images, dataset, known)
    )


@imports.command("label-studio")
def label_studio(
    export: Annotations, images: Images, dataset: Dataset = "parts", name: Name = None
) -> None:
    """Deliver a JSON export of Label Studio: brushes, polygons, rectangles, ellipses."""
    from defect_assets.dataset.formats.label_studio import read_label_studio

    _deliver_annotated(
        export, name, lambda known: read_label_studio(export, images, dataset, known)
    )


@imports.command()
def cvat(
    annotations: Annotations, images: Images, dataset: Dataset = "parts", name: Name = None
) -> None:
    """Deliver an export of CVAT ("CVAT for images 1.1"): masks, polygons, boxes, ellipses."""
    from defect_assets.dataset.formats.cvat import read_cvat

    _deliver_annotated(
        annotations, name, lambda known: read_cvat(annotations, images, dataset, known)
    )


@imports.command()
def labelme(
    source: Annotated[
        Path, typer.Argument(help="Folder of JSON files and images.", exists=True, file_okay=False)
    ],
    dataset: Dataset = "parts",
    name: Name = None,
) -> None:
    """Deliver a folder that LabelMe wrote."""
    from defect_assets.dataset.formats.labelme import read_labelme

    _deliver_annotated(source, name, lambda known: read_labelme(source, dataset, known))


def _deliver_annotated(
    source: Path, name: str | None, read: Callable[[DatasetDescription | None], Imported]
) -> None:
    """Deliver what a labelling tool exported, with the classes of the dataset that it joins."""
    from defect_assets.home import default_home

    with errors():
        home = default_home()
        found = read(home.description() if home.dataset.exists() else None)
        home.hold(found.description)
        if found.left_out:
            console.print(
                f"[yellow]{len(found.left_out)} images that nobody labelled are left out[/], "
                f"{escape(found.left_out[0])} among them"
            )
        _deliver(home, name or source.resolve().stem, found.samples, found.count, source.name)


def deliver_synthetic(home: Home, name: str, first: int, tiles: int) -> None:
    """Deliver some tiles of the synthetic line."""
    from defect_assets.dataset.synthetic import EXPOSURES, synthetic_samples
    from defect_assets.home import known_description

    home.hold(known_description("synthetic-tiles"))
    samples = synthetic_samples(DEMO_SEED, first, tiles)
    last = first + tiles - 1
    notes = f"Synthetic tile line, tiles {first} to {last}"
    _deliver(home, name, samples, tiles * len(EXPOSURES), notes)


def _deliver(
    home: Home, name: str, samples: Iterable[DeliveredSample], total: int, notes: str
) -> None:
    from rich.progress import track

    from defect_assets.dataset.delivery import write_delivery

    counted = track(
        samples, f"delivering {name}", total=total, console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
    written = write_delivery(home.inbox, name, counted, notes)
    count = sum(1 for _ in (written / "images").iterdir())
    console.print(
        f"delivered [bold]{escape(name)}[/]: {count} images in {escape(str(written))}",
        soft_wrap=True,
    )
