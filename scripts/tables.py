"""What scripts that measure share: mean and error, a paired test, a page's table."""

from pathlib import Path

import numpy as np
from scipy import stats


def spread(values: np.ndarray) -> str:
    """Returns the mean ± the standard error."""
    return f"{values.mean():.2f} ± {stats.sem(values):.2f}"


def versus(values: np.ndarray, others: np.ndarray) -> str:
    """Returns the mean difference, and its p by the paired t-test, two-sided.

    Args:
      values: of one method, `[seeds]`.
      others: of another, with the same seeds.
    """
    p = stats.ttest_rel(values, others).pvalue
    return f"{(values - others).mean():+.2f}, p = {p:.2g}"


def put(page: Path, command: str, table: str) -> None:
    """Puts a table between the marks of its command in a page."""
    start, end = (f"<!-- {command}: {which} -->" for which in ("start", "end"))
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(start)
    after = rest.split(end)[1]
    page.write_text(f"{before}{start}\n{table}\n{end}{after}", encoding="utf-8")
