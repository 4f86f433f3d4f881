"""A bento that was built is a service that answers."""

import dagster as dg

from defect_assets.assets.release import defect_bento
from defect_assets.checks.subject import release_of
from defect_assets.dataset.split import read_part, read_split
from defect_assets.inference.images import encode_png
from defect_assets.registry.comparison.comparing import read_report
from defect_assets.registry.packaging import bento_folder
from defect_assets.registry.release.releases import find_release
from defect_assets.registry.smoke import ask_bento
from defect_assets.resources import HomeResource


@dg.asset_check(asset=defect_bento, blocking=True)
def bento_answers(
    context: dg.AssetCheckExecutionContext, home: HomeResource
) -> dg.AssetCheckResult:
    """The service starts from the bento, and says something of an image of the test split."""
    place = home.open()
    store = place.store()
    name = release_of(context, store)
    release = find_release(store, name) if name else None
    if release is None:
        return dg.AssetCheckResult(passed=True, description="nothing is released yet")
    if not bento_folder(place.bentoml, release).is_dir():
        missing = f"the bento of {release.id} is not in {place.bentoml}: materialize defect_bento"
        return dg.AssetCheckResult(passed=False, description=missing)
    split = read_split(store, read_report(store, release.report).split)
    image = next(iter(read_part(store, split, "test", of_each_class=1)))
    answer = ask_bento(place.bentoml, release, encode_png(image.image))
    return dg.AssetCheckResult(
        passed=answer.sound,
        description=None if answer.sound else f"{release.id} does not answer: {answer.said}",
        metadata={
            "release": release.id,
            "image": image.sample,
            "status": answer.status,
            "milliseconds": round(answer.milliseconds, 1),
            "verdict": answer.said["verdict"] if answer.sound else "none",
        },
    )
