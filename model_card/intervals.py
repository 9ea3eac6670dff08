"""How shares and their intervals are written."""


def percent(share: float) -> str:
    """Formats a share as a percentage."""
    return f"{100 * share:.1f}%"


def percent_or_empty(share: float | None) -> str:
    """Formats a share as a percentage. A missing share becomes an empty string."""
    return "" if share is None else percent(share)


def percent_range(limits: tuple[float, float] | None) -> str:
    """Formats an interval as percentages. The text is empty if there is no interval."""
    return "" if limits is None else f"{percent(limits[0])} to {percent(limits[1])}"
