"""Scores as people are shown them."""


def titled(name: str) -> str:
    """Return the name of a score.

    >>> titled("macro_dice")
    'macro Dice'
    """
    return name.replace("_", " ").replace("dice", "Dice").replace("auroc", "AUROC")


def scored(score: float | None, digits: int = 3) -> str:
    """Return a score; a dash where there was nothing to measure.

    >>> scored(0.25), scored(None)
    ('0.250', '–')
    """
    return "–" if score is None else f"{score:.{digits}f}"
