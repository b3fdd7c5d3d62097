"""Figures of processes that ran in turns: one a process, and differences with their interval."""

import math
import statistics

STUDENT_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14)


def student_95(freedom):
    """The two-sided 95% quantile of Student's distribution; freedom: at least 1."""
    return STUDENT_95[freedom - 1] if freedom <= len(STUDENT_95) else 2.0 + 2.1 / freedom


def best_third(values, lower_is_better):
    """The mean of the best third of a process's repeats: near their mode, without outliers."""
    values = sorted(values, reverse=not lower_is_better)
    return statistics.mean(values[: max(1, len(values) // 3)])


def mean_of_means(of_gpus):
    return statistics.mean(map(statistics.mean, of_gpus.values()))


def difference(processes, base):
    """The difference to `base` in percent, with its 95% interval from the spread of like processes.
    Both are {GPU: one figure a process}. Each GPU is compared with itself: GPUs differ by more than
    tracing costs."""
    gpus = sorted(set(processes) & set(base))
    if not gpus:
        return "-"
    percent = statistics.mean(
        100 * (statistics.mean(processes[gpu]) / statistics.mean(base[gpu]) - 1) for gpu in gpus
    )
    alike = [of[gpu] for of in (processes, base) for gpu in gpus]
    freedom = sum(len(group) - 1 for group in alike)
    if freedom == 0:
        return f"{percent:+.2f}%"
    squares = sum(
        (100 * (value / statistics.mean(group) - 1)) ** 2 for group in alike for value in group
    )
    error = math.sqrt(squares / freedom * sum(1 / len(group) for group in alike)) / len(gpus)
    half = student_95(freedom) * error
    return f"{percent:+.2f}% [{percent - half:+.2f}, {percent + half:+.2f}]"
