"""Making a release: the number by rule, the gates, who overrode them, the documents."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defect_assets.dataset.version import Bump, Version
from defect_assets.registry.checkout import identity
from defect_assets.registry.release.candidates import Candidate, ReleaseRefused, find_candidate
from defect_assets.registry.release.documents import Override, write_documents
from defect_assets.registry.release.gates import FILE, GateResult, Gates, listed
from defect_assets.registry.release.judgement import judge
from defect_assets.registry.release.numbering import Numbering, number
from defect_assets.registry.release.releases import DOCUMENTS, Release
from defect_assets.settings import read_settings
from defect_assets.store import Store


class GatesFailed(ReleaseRefused):
    """A release that its gates refuse; the message lists them all.

    Attributes
    ----------
    results
        How the model did at each of them.
    """

    def __init__(self, message: str, results: tuple[GateResult, ...]) -> None:
        super().__init__(message)
        self.results = results


@dataclass(frozen=True)
class Proposal:
    """What would be released."""

    release: Release
    candidate: Candidate
    numbering: Numbering
    results: tuple[GateResult, ...]

    @property
    def failed(self) -> tuple[GateResult, ...]:
        """The gates that it does not pass."""
        return tuple(result for result in self.results if not result.passed)

    def admit(self, reason: str, project: Path) -> Override | None:
        """Let it pass, if it passes the gates, or someone says why it should all the same.

        Parameters
        ----------
        reason
            Why it should; empty: it should not.
        project
            The checkout, in which git knows who says so.

        Returns
        -------
        Override or None
            None where nothing had to be overridden.

        Raises
        ------
        GatesFailed
            If it does not pass, or fails a gate that nobody can override.
        """
        if not self.failed:
            return None
        stuck = [result for result in self.failed if not result.waivable]
        if reason.strip() and not stuck:
            return Override(reason=reason.strip(), by=identity(project))
        experiment = f"{self.release.dataset}/{self.release.config}"
        lines = [
            f"{self.candidate.experiment} is not released: it fails {len(self.failed)} of "
            f"{len(self.results)} gates",
            *listed(self.results),
        ]
        if stuck:
            lines.append(f"Nobody can override: {', '.join(r.gate for r in stuck)}.")
        else:
            lines.append(
                "Or release it all the same, for a reason that is recorded with your name: "
                f'defect-assets release {experiment} --override "why", in Dagster\'s launchpad '
                "override: why."
            )
        raise GatesFailed("\n".join(lines), self.results)

    def documents(self, store: Store, override: Override | None) -> dict[str, bytes]:
        """Write the release's note, model card and metrics; return them by name."""
        return write_documents(
            store, self.release, self.candidate, self.numbering, self.results, override
        )

    def details(self, store: Store, override: Override | None) -> dict[str, Any]:
        """Put the documents into the store; return what the release's record tells."""
        told = {
            "numbering": self.numbering.model_dump(exclude={"changed"}),
            "gates": [result.model_dump() for result in self.results],
            DOCUMENTS: store.objects.put_tree(self.documents(store, override)),
        }
        return told | ({"override": override.model_dump()} if override else {})


def propose(
    store: Store,
    project: Path,
    dataset: str,
    config: str,
    given: Bump | Version | None = None,
    notes: str = "",
) -> Proposal:
    """Return what the release of an experiment would be. Nothing is released.

    Parameters
    ----------
    store
        Where everything lies.
    project
        The checkout with the gates.
    dataset, config
        The experiment.
    given
        The number that a person wants raised, or a whole version; by default what the rule says.
    notes
        What people should know of it.

    Raises
    ------
    ReleaseRefused
        If the experiment was not evaluated as it stands, or the number is too low.
    SettingsError
        If there is no file with gates, or it cannot be used.
    """
    candidate = find_candidate(store, dataset, config)
    gates = read_settings(project / FILE, Gates)
    numbering = number(store, project, candidate, given)
    release = Release(
        id=numbering.version,
        bundle=candidate.model.content,
        report=candidate.evaluation.content,
        dataset=dataset,
        config=config,
        metrics=candidate.report.test,
        intervals=candidate.intervals,
        gates=gates,
        previous=numbering.previous,
        notes=notes.strip(),
    )
    return Proposal(release, candidate, numbering, tuple(judge(store, project, gates, candidate)))
