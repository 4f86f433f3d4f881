"""Dividing work among the processors of a Ray cluster."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from defect_assets.cluster.connection import NoCluster, connect
from defect_assets.cluster.likeness import demand, likeness

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Items for each processor that are under way or done and not yet asked for: a worker that is done
finds the next one waiting."""
RETRIES = 3
"""How often an item is given to another worker because its worker died."""


@dataclass(frozen=True)
class OnRay:
    """Calls a function on items as Ray's tasks; see `defect_assets.spreading.Spread`.

    Parameters
    ----------
    environment
        Variables for the workers, e.g. where a bucket is. Nothing secret: Ray shows them.
    gpus
        Of how much of a GPU a task has use, where the cluster has any.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: float = 0

    def __call__(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """Yield the results in the order of the items.

        Raises
        ------
        NoCluster
            If the cluster is not there, or is lost meanwhile.
        OtherCode
            If a node has other code than this process.
        Exception
            What the function raises.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        connect()
        has = ray.cluster_resources()
        gpus = self.gpus if has.get("GPU", 0) >= self.gpus else 0
        task: Any = ray.remote(_call).options(
            num_cpus=1,
            num_gpus=gpus,
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": dict(self.environment)},
        )
        sent: Any = ray.put(function)  # once, however many items there are
        own = likeness()
        places = has.get("GPU", 0) / gpus if gpus else has.get("CPU", 1)
        rest = iter(items)
        under_way = deque(
            task.remote(own, sent, item) for item in islice(rest, int(AHEAD * places) + 1)
        )
        try:
            while under_way:
                yield ray.get(under_way.popleft())
                under_way.extend(task.remote(own, sent, item) for item in islice(rest, 1))
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            raise NoCluster(f"the cluster failed before all was done: {error}") from error
        finally:
            for reference in under_way:
                ray.cancel(reference)


def _call(expected: str, function: Callable[[Item], Result], item: Item) -> Result:
    demand(expected)
    return function(item)
