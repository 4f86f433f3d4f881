"""Recipes: all that decides a model, and which models were made by which."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from defect_assets.registry.comparison.differences import Factor
from defect_assets.registry.subjects import EXPERIMENTS
from defect_assets.store import Digest, Record, Store, canonical_json, digest_of

TRIAGES = "triages/"
"""Under this name are models that were trained to find out what made another one worse."""


@dataclass(frozen=True)
class Recipe:
    """All that decides a model, but for the machine."""

    split: Digest
    config: Digest
    code_version: str
    """Of the code that trains."""
    commit: str
    """Where this code is found."""
    environment: Digest
    packages: Digest
    """Stands for the environment without its lock: its bytes may differ where no package does."""

    @property
    def key(self) -> str:
        """The same for what gives the same model; 16 characters."""
        deciding = [self.split, self.config, self.code_version, self.packages]
        return digest_of(canonical_json(deciding))[:16]

    @property
    def name(self) -> str:
        """The name of the model where it is no experiment's."""
        return f"{TRIAGES}models/{self.key}"

    def with_factors(self, factors: Iterable[Factor], of: "Recipe") -> "Recipe":
        """Return this recipe with some factors of another one."""
        fields = {
            Factor.DATA: {"split": of.split},
            Factor.CONFIG: {"config": of.config},
            Factor.CODE: {"code_version": of.code_version, "commit": of.commit},
            Factor.ENVIRONMENT: {"environment": of.environment, "packages": of.packages},
        }
        changed = {name: value for factor in factors for name, value in fields[factor].items()}
        return replace(self, **changed)


def recipe_of(store: Store, model: Record) -> Recipe | None:
    """Return what a model was made by; None where its record does not say all of it."""
    try:
        split, config, environment = (
            model.parents[stage]
            for stage in ("dataset_split", "training_config", "python_environment")
        )
    except KeyError:
        return None
    packages = store.objects.get_json(environment) | {"lock": ""}
    return Recipe(
        split=split,
        config=config,
        code_version=model.code_version,
        commit=model.commit,
        environment=environment,
        packages=digest_of(canonical_json(packages)),
    )


def made_by(store: Store) -> dict[str, Record]:
    """Return the newest model of each recipe, by its key, whichever experiment it is of."""
    found: dict[str, Record] = {}
    for folder in (EXPERIMENTS, f"{TRIAGES}models/"):
        for name in store.refs.names(folder):
            for model in store.history(name):
                if recipe := recipe_of(store, model):
                    found.setdefault(recipe.key, model)
    return found
