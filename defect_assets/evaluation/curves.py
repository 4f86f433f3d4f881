"""Plots of a training's curves."""

import io

from matplotlib.figure import Figure


def plot_history(history: list[dict[str, float]]) -> bytes:
    """Plot loss and validation Dice by step; return a PNG file.

    Parameters
    ----------
    history
        Points with ``step``, ``loss`` and ``val_dice``.
    """
    steps = [point["step"] for point in history]
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    for position, (key, label) in enumerate(
        [("loss", "training loss"), ("val_dice", "validation Dice")], start=1
    ):
        axes = figure.add_subplot(1, 2, position)
        axes.plot(steps, [point[key] for point in history], color="#2563eb")
        axes.set_title(label, fontsize=10)
        axes.set_xlabel("step", fontsize=9)
        axes.grid(alpha=0.3)
        axes.set_ylim(0, 1 if key == "val_dice" else None)
    buffer = io.BytesIO()
    # Without the writer's own metadata the same curves give the same bytes.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
