"""Packing a release as bentos: the service, the inference code, the model, exact requirements.

``defect_detector:v1.4.2`` is for a processor and holds no PyTorch, where OpenVINO answers as
PyTorch does; ``defect_detector:v1.4.2-cuda`` is the same for a GPU.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from defect_assets.dataset.images import LabelledImage
from defect_assets.dataset.split import read_part, read_split
from defect_assets.evaluation.report import REPORT, Report
from defect_assets.inference.exported import MODEL
from defect_assets.registry.release.release_bundle import bundle_files
from defect_assets.registry.release.releases import NOTE, Release
from defect_assets.store import Digest, Store
from defect_assets.store.objects import write_tree

if TYPE_CHECKING:
    from defect_assets.registry.exporting import Comparison

REF = "bentos/"
NAME = "defect_detector"
CPU, CUDA = "bentofile.yaml", "bentofile-cuda.yaml"
_PACKAGE = Path(__file__).resolve().parents[1]


def service_files(service: Path) -> list[Path]:
    """Return what is staged of the service's folder: all but what was compiled from it."""
    package = service / "detector_service"
    return [
        service / "service.py",
        *sorted(service.glob("requirements-*.lock")),
        *sorted(service.glob("bentofile*.yaml")),
        *sorted(p for p in package.rglob("*") if p.is_file() and p.parent.name != "__pycache__"),
    ]


def stage(
    store: Store, release: Release, service: Path, folder: Path
) -> tuple[Digest, list["Comparison"]]:
    """Write all that a bento of a release consists of into a folder.

    Parameters
    ----------
    store
        Where the bundle lies.
    release
        What is to be served.
    service
        The folder with `service_files`.
    folder
        Gets ``source`` (what the bento is built from) and ``model`` (the release's bundle, and
        what other runtimes than PyTorch need).

    Returns
    -------
    str
        The bento's digest: of its files' names and contents, which the store holds, too. The same
        release with the same code gives the same.
    list of Comparison
        How other runtimes answer; those that answer otherwise are not served.
    """
    from defect_assets.registry.exporting import OF_EACH_CLASS, export_runtimes  # imports PyTorch

    source, model = folder / "source", folder / "model"
    inference = Path("defect_assets/inference")
    shutil.copytree(
        _PACKAGE / "inference",
        source / inference,
        ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
    )
    shutil.copy(_PACKAGE / "__init__.py", source / inference.parent)
    for file in service_files(service):
        target = source / file.relative_to(service)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    (source / "MODEL").write_text(tag(release) + "\n")

    write_tree(bundle_files(store, release), model)
    if (note := model / NOTE).exists():
        shutil.copy(note, source / "README.md")  # where BentoML looks for a description
    comparisons = export_runtimes(model, list(_test_images(store, release, OF_EACH_CLASS)))
    digest = store.objects.put_tree(
        {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
    )
    return digest, comparisons


def _test_images(store: Store, release: Release, of_each_class: int) -> Iterator[LabelledImage]:
    """Yield some images of each class that the released model was tested on."""
    report = Report.model_validate_json(store.objects.get_tree(release.report)[REPORT])
    return read_part(store, read_split(store, report.split), "test", of_each_class=of_each_class)


def tag(release: Release) -> str:
    """Return the name of a release's model and bento in BentoML's stores."""
    return f"{NAME}:{release.id}"


def bento_folder(bentoml_home: Path, release: Release) -> Path:
    """Return where BentoML keeps the bento of a release."""
    return bentoml_home / "bentos" / NAME / release.id


def build(staged: Path, digest: Digest, release: Release, bentoml_home: Path) -> str:
    """Build the bentos from what `stage` wrote; what is there already is not built again.

    Returns
    -------
    str
        The tag of the one for processors; that for GPUs has ``-cuda`` behind it.
    """
    # BentoML reads these when it is imported.
    os.environ["BENTOML_HOME"] = str(bentoml_home)
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    import bentoml

    name = tag(release)
    # A label holds 63 characters, one less than a digest has.
    labels = {"digest": digest[:63], "release": release.id, "dataset": release.dataset}
    on_cpu = CPU if (staged / "model" / MODEL).exists() else CUDA  # PyTorch alone can run it
    names = {f"{name}-cuda": CUDA, name: on_cpu}  # what is built last is ``latest``
    if all(_label(name) == labels["digest"] for name in names):
        return name
    for bento in names:
        with suppress(bentoml.exceptions.NotFound):
            bentoml.delete(bento)
    with suppress(bentoml.exceptions.NotFound):
        bentoml.models.delete(name)
    with bentoml.models.create(name, labels=labels) as model:
        shutil.copytree(staged / "model", model.path, dirs_exist_ok=True)
    for bento, bentofile in names.items():
        bentoml.bentos.build_bentofile(
            str(staged / "source" / bentofile),
            version=bento.removeprefix(f"{NAME}:"),
            labels=labels,
            build_ctx=str(staged / "source"),
        )
    return name


def _label(name: str) -> str | None:
    """Return the digest of what a bento in BentoML's store was built from."""
    import bentoml

    try:
        return bentoml.get(name).info.labels.get("digest")
    except bentoml.exceptions.NotFound:
        return None


def package(
    store: Store, release: Release, service: Path, bentoml_home: Path
) -> tuple[Digest, str, list["Comparison"]]:
    """Stage and build the bento of a release; return its digest, its tag, how runtimes answer."""
    with tempfile.TemporaryDirectory(prefix="defect-bento-") as folder:
        staged = Path(folder)
        digest, comparisons = stage(store, release, service, staged)
        return digest, build(staged, digest, release, bentoml_home), comparisons


def rebuild(store: Store, release: Release, bentoml_home: Path) -> bool:
    """Build the bento of a release from what the store holds of it, e.g. in a clone.

    Returns
    -------
    bool
        Whether there is one; a release that was never packed has none.
    """
    digest = store.content(f"{REF}{release.id}")
    if digest is None:
        return False
    with tempfile.TemporaryDirectory(prefix="defect-bento-") as folder:
        write_tree(store.objects.get_tree(digest), Path(folder))
        build(Path(folder), digest, release, bentoml_home)
    return True
