"""The command line. Heavy imports are inside the commands, so that help is quick."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape

from defect_assets.commands import channels, data, models, releases, stores, training
from defect_assets.commands.audit import audit
from defect_assets.commands.errors import errors, fail
from defect_assets.commands.imports import deliver_synthetic, imports
from defect_assets.commands.lineage import lineage
from defect_assets.commands.repro import repro, walk_whole
from defect_assets.commands.reproduce import reproduce
from defect_assets.commands.roads import open_instance, open_road
from defect_assets.commands.scoring import score
from defect_assets.console import (
    console,
    example_image,
    show_crossvalidation,
    show_leak_audit,
)

if TYPE_CHECKING:
    from defect_assets.home import Home

app = typer.Typer(
    help="From a camera's images to a trusted defect detector: versioned, traceable, served.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
)
app.add_typer(imports, name="import")
for command in (
    repro,
    data.ingest,
    data.status,
    data.cut,
    data.log,
    data.show,
    data.diff,
    data.checkout,
    data.export,
    training.preflight,
    releases.release,
    releases.bundle,
    models.compare,
    models.leaderboard,
    models.triage,
    channels.promote,
    channels.rollback,
    channels.channels,
    lineage,
    audit,
    reproduce,
    score,
    stores.verify,
    stores.gc,
    stores.push,
    stores.pull,
    stores.clone,
):
    app.command()(command)

DEMO_DELIVERIES = (("line-1-week-45", 1, 150), ("line-1-week-46", 151, 90))
"""Name, first tile and number of tiles of the demo's two deliveries."""


@app.callback()
def main(
    home: Annotated[
        Path | None,
        typer.Option(
            envvar="DEFECT_HOME",
            help="Folder that holds one dataset and all that comes of it. "
            r"\[default: home, in the checkout]",
            show_default=False,
            file_okay=False,
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="DEFECT_STORE",
            help="Where the home's data lie: a folder, or s3://bucket/prefix. "
            r"\[default: store, in the home]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Choose the home."""
    if home is not None:
        os.environ["DEFECT_HOME"] = str(home.resolve())
    if store:
        os.environ["DEFECT_STORE"] = store if "://" in store else str(Path(store).resolve())


@app.command()
def demo() -> None:
    """Take the synthetic tile line the whole road: two deliveries, a model, a bento."""
    with errors(), open_road() as road:
        for delivery in DEMO_DELIVERIES:
            if (road.home.inbox / delivery[0]).exists():
                continue
            deliver_synthetic(road.home, *delivery)
            road.take_in()
            road.cut()
        walk_whole(road, ["C-01"])


@app.command(name="cross-validate")
def cross_validate(
    config: Annotated[str, typer.Option(help="Training configuration, by its id.")] = "C-01",
    at_once: Annotated[
        int,
        typer.Option(help="Folds to train at the same time, each in its own process.", min=1),
    ] = 1,
    allow_unpinned: Annotated[
        bool, typer.Option("--allow-unpinned", help="Explore, as in `repro`.")
    ] = False,
) -> None:
    """Measure a configuration on every part of the newest dataset.

    In each fold some parts are kept from training and tested, so that each part is tested once by
    a model that never saw it. Takes as long as several trainings; an interrupted one goes on.
    """
    from defect_assets.home import default_home

    with errors():
        default_home().description()
        with open_road(allow_unpinned) as road:
            road.take_in()
            show_crossvalidation(road.cross_validate(road.cut(), config, at_once))


@app.command(name="leak-audit")
def leak_audit(
    config: Annotated[str, typer.Option(help="Training configuration, by its id.")] = "C-01",
    allow_unpinned: Annotated[
        bool, typer.Option("--allow-unpinned", help="Explore, as in `repro`.")
    ] = False,
) -> None:
    """Measure what a random split would make one believe of the newest dataset.

    Trains the same configuration twice: once divided by part, as always, and once image by image,
    so that parts which are tested were seen in training. The difference is not skill.
    """
    from defect_assets.home import default_home

    with errors():
        default_home().description()
        with open_road(allow_unpinned) as road:
            road.take_in()
            show_leak_audit(road.audit_leak(road.cut(), config))


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the UI.", min=1, max=65535)] = 3001,
) -> None:
    """Open Dagster's UI and daemon on this home."""
    from defect_assets.home import PROJECT, default_home

    with errors():
        home = default_home()
        home.prepare()
        if not (home.dagster / "history").exists():
            # The UI's processes would all make the database at once, and break it.
            _make_instance(home)
    os.chdir(PROJECT)  # where dg looks for the project
    console.print(f"Dagster's UI comes up at http://localhost:{port}")
    _become([_tool("dg"), "dev", "--port", str(port)], home)


@app.command()
def prepare() -> None:
    """Make the home, and Dagster's database: once before servers of a deployment start."""
    from defect_assets.home import default_home

    with errors():
        _make_instance(default_home())


@app.command()
def serve(
    release: Annotated[
        str | None,
        typer.Option(
            help="Which one: a version such as v0.1.0, or a channel such as staging.",
            show_default="what is in production, or else the newest",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to listen on.", show_default="3000, or the next free", min=1, max=65535
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0: all, so that the network reaches it. "
            "Without DETECTOR_API_KEYS it asks nobody who they are."
        ),
    ] = "127.0.0.1",
) -> None:
    """Serve a release over HTTP with BentoML."""
    from defect_assets.home import default_home
    from defect_assets.registry.channels import PRODUCTION, channels, in_use
    from defect_assets.registry.packaging import bento_folder, rebuild, tag

    with errors():
        home = default_home()
        store = home.store()
        chosen = in_use(store, release)
        if not bento_folder(home.bentoml, chosen).is_dir():
            with console.status(f"building the bento of {chosen.id} from the store"):
                rebuilt = rebuild(store, chosen, home.bentoml)
            if not rebuilt:
                fail(f"{chosen.id} was not packed yet: run defect-assets repro first")
        if port is None:
            port = _free_port(3000)
            if port != 3000:
                console.print(f"Port 3000 is taken; the service listens on [bold]{port}[/].")
        why = f", which is in {release or PRODUCTION}" if release != chosen.id else ""
        if release is None and PRODUCTION not in channels(store):
            why = ", the newest release, since nothing is in production"
        console.print(
            f"[bold]{tag(chosen)}[/]{why}, trained on {chosen.dataset}. Analyze an image with\n"
            f"  curl -F image=@{escape(example_image(home))} http://localhost:{port}/analyze\n"
            f"or drop images onto http://localhost:{port}",
            soft_wrap=True,
        )
    _become([_tool("bentoml"), "serve", tag(chosen), "--host", host, "--port", str(port)], home)


@app.command()
def env() -> None:
    """Print the variables with which `dagster` and `bentoml` use this home themselves.

    Use it as: `eval "$(defect-assets env)"`
    """
    import shlex

    from defect_assets.home import default_home

    for name, value in default_home().environment().items():
        print(f"export {name}={shlex.quote(value)}")


def _make_instance(home: Home) -> None:
    with home.at_work(), open_instance(home):
        pass


def _free_port(first: int) -> int:
    for port in range(first, first + 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    fail(f"no port is free from {first} to {first + 99}: give one with --port")


def _tool(name: str) -> str:
    """Return the command of this environment, whether it is active or not."""
    return str(Path(sys.executable).with_name(name))


def _become(command: list[str], home: Home) -> NoReturn:
    sys.stdout.flush()
    environment = {**os.environ, **home.environment(), "VIRTUAL_ENV": sys.prefix}
    os.execve(command[0], command, environment)
